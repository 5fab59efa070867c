#!/bin/sh
# Installs what is missing of the tools named, from Debian's packages. Does nothing, and needs no rights, when all are there.
#
#   scripts/need.sh postgres       the Postgres server binaries (no cluster is created and none is started)
#   scripts/need.sh python-venv    the part of Python that makes virtual environments
#   scripts/need.sh compiler       the C compiler and linker that cargo calls
#   scripts/need.sh wrk nginx      what the benchmark measures with, and a peer in it
#   scripts/need.sh pgbouncer      the pooler that tests put before Postgres
#   scripts/need.sh slapd          the directory that tests ask for passwords, and what makes certificates for it
#   scripts/need.sh curl           a client that tests log in with
#   scripts/need.sh node           Node with npm, on which the tests run an identity provider
#   scripts/need.sh cluster        what a Kubernetes node needs of the system that it runs on
set -eu

has() { command -v "$1" >/dev/null 2>&1; }

has_postgres() {
    has initdb && return
    for program in /usr/lib/postgresql/*/bin/initdb; do
        [ -x "$program" ] && return
    done
    return 1
}

# Programs of the administrator, which the PATH of others leaves out.
has_system() { has "$1" || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ]; }

package_of() {
    case $1 in
        ip) echo iproute2 ;;
        # For the image of a client, which has no libraries.
        busybox) echo busybox-static ;;
        *) echo "$1" ;;
    esac
}

packages=
for tool in "$@"; do
    case $tool in
        postgres) has_postgres || packages="$packages postgresql" ;;
        python-venv) python3 -c 'import ensurepip, venv' 2>/dev/null || packages="$packages python3-venv" ;;
        compiler) has cc || packages="$packages gcc libc6-dev" ;;
        pgbouncer) has_system pgbouncer || packages="$packages pgbouncer" ;;
        slapd)
            has_system slapd || packages="$packages slapd"
            has openssl || packages="$packages openssl"
            ;;
        curl) has curl || packages="$packages curl" ;;
        node)
            has node || packages="$packages nodejs"
            has npm || packages="$packages npm"
            ;;
        zchunk) has unzck || packages="$packages zchunk" ;;
        wrk) has wrk || packages="$packages wrk" ;;
        nginx) has nginx || [ -x /usr/sbin/nginx ] || packages="$packages nginx-light" ;;
        cluster)
            for program in containerd runc iptables conntrack ip openssl pgbouncer busybox; do
                has_system "$program" || packages="$packages $(package_of "$program")"
            done
            [ -x /usr/lib/cni/bridge ] || packages="$packages containernetworking-plugins"
            has_postgres || packages="$packages postgresql"
            ;;
        *) echo "need.sh: unknown tool $tool" >&2; exit 2 ;;
    esac
done
[ -z "$packages" ] && exit 0

if ! has apt-get; then
    echo "missing:$packages (names of Debian packages); install them with this system's package manager" >&2
    exit 1
fi
as_root=
if [ "$(id -u)" -ne 0 ]; then
    if ! has sudo; then
        echo "missing:$packages; as root: apt-get install$packages" >&2
        exit 1
    fi
    as_root=sudo
fi

# Where the system has a manager of services, only this file keeps new packages from starting theirs.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap '$as_root rm -f $policy' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null
    $as_root chmod 755 $policy
fi

# Postgres, slapd and nginx are started by those who use them, never by the system.
quiet_services() {
    $as_root mkdir -p /etc/postgresql-common/createcluster.d
    echo "create_main_cluster = false" | $as_root tee /etc/postgresql-common/createcluster.d/granary.conf >/dev/null
}
case $packages in *postgresql*) quiet_services ;; esac

echo "installing:$packages" >&2
$as_root apt-get update -qq
# RUNLEVEL=1 keeps Debian's maintainer scripts from starting a service.
# shellcheck disable=SC2086  # a list of package names
$as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends $packages </dev/null >&2
