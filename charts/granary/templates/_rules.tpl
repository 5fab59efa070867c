{{- /*
What the operator may do in each namespace that it serves. Each rule names the code that needs it. Server-side apply is
`patch`, and `create` where the object is not there yet.
*/ -}}
{{- define "granary.rules" -}}
# operator/src/operator.rs: watches the objects themselves
- apiGroups: [granary.dev]
  resources: [packageregistries, channels]
  verbs: [get, list, watch]
# operator/src/channel.rs: sets and removes the finalizer of a Channel
- apiGroups: [granary.dev]
  resources: [channels]
  verbs: [patch]
# operator/src/registry/status.rs, operator/src/channel.rs: what became of them
- apiGroups: [granary.dev]
  resources: [packageregistries/status, channels/status]
  verbs: [patch]
# operator/src/registry/apply.rs: owner references that block deletion, where the cluster checks who may set them
- apiGroups: [granary.dev]
  resources: [packageregistries/finalizers, channels/finalizers]
  verbs: [update]
# operator/src/registry/dereference.rs reads the Secrets that an object names, one by one: it cannot list them.
# operator/src/registry/credentials.rs makes NAME-database and NAME-store
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch]
# operator/src/registry/dereference.rs reads those of certificate authorities; operator/src/registry/apply.rs makes NAME-config
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, create, patch]
# operator/src/registry/apply.rs: the pods' account and address, and those of the store
- apiGroups: [""]
  resources: [serviceaccounts, services]
  verbs: [get, create, patch, delete]
# operator/src/registry/apply.rs makes the pods and NAME-store; operator/src/operator.rs watches their rollout
- apiGroups: [apps]
  resources: [deployments, statefulsets]
  verbs: [get, list, watch, create, patch, delete]
# operator/src/registry/apply.rs makes the migration, which never changes; operator/src/operator.rs waits for its end
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
# operator/src/registry/apply.rs: the way in, and who may take it
- apiGroups: [networking.k8s.io]
  resources: [ingresses, networkpolicies]
  verbs: [get, create, patch, delete]
# operator/src/registry/apply.rs: in place of an Ingress with spec.gateway
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, create, patch, delete]
# operator/src/registry/apply.rs: spec.autoscaling
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, create, patch, delete]
# operator/src/registry/apply.rs: keeps pods serving while nodes are drained
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, create, patch, delete]
# operator/src/registry/apply.rs: spec.monitoring
- apiGroups: [monitoring.coreos.com]
  resources: [servicemonitors]
  verbs: [get, create, patch, delete]
# operator/src/operator.rs: tells what happened to an object
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
