{{- /* The name of everything: granary-operator for a release named granary. */ -}}
{{- define "granary.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride }}
{{- else if hasSuffix "granary-operator" .Release.Name }}
{{- .Release.Name }}
{{- else if contains "granary" .Release.Name }}
{{- printf "%s-operator" (.Release.Name | trunc 43) }}
{{- else }}
{{- printf "%s-granary-operator" (.Release.Name | trunc 35) }}
{{- end }}
{{- end }}

{{- /* What a selector selects. Registry pods are app.kubernetes.io/name=granary. */ -}}
{{- define "granary.selectorLabels" -}}
app.kubernetes.io/name: granary-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "granary.labels" -}}
{{ include "granary.selectorLabels" . }}
{{ include "granary.commonLabels" . }}
{{- end }}

{{- define "granary.commonLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: granary
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "granary.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "granary.fullname" .) }}
{{- end }}

{{- /* An image's reference, from (list ROOT IMAGE). */ -}}
{{- define "granary.image" -}}
{{- $root := index . 0 }}
{{- with index . 1 }}
{{- if .digest }}
{{- printf "%s@%s" .repository .digest }}
{{- else }}
{{- printf "%s:%s" .repository (.tag | default $root.Chart.AppVersion) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The container's part of the restricted Pod Security Standard. The image runs as 65532 by itself. */ -}}
{{- define "granary.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- /* The pod's part. */ -}}
{{- define "granary.podSecurityContext" -}}
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- /* The pod of `helm test`. */ -}}
{{- define "granary.testLabels" -}}
app.kubernetes.io/name: granary-operator-test
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
