//! `OpenLDAP`'s server over a folder of its own, with certificates made on the fly.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Whom there is. Passwords stand in the clear.
const ENTRIES: &str = r"
dn: dc=example
objectClass: dcObject
objectClass: organization
dc: example
o: Example

dn: cn=searcher,dc=example
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: searcher
userPassword: finder

dn: ou=people,dc=example
objectClass: organizationalUnit
ou: people

dn: uid=ada,ou=people,dc=example
objectClass: inetOrgPerson
uid: ada
cn: Ada
sn: Lovelace
userPassword: correct horse

dn: cn=Hopper\2C Grace (Navy) * Ü {user},ou=people,dc=example
objectClass: inetOrgPerson
uid: grace
cn: Hopper, Grace (Navy) * Ü {user}
sn: Hopper
userPassword: cobol

dn: uid=locked,ou=people,dc=example
objectClass: inetOrgPerson
uid: locked
cn: Locked
sn: Locked

dn: ou=others,ou=people,dc=example
objectClass: organizationalUnit
ou: others

dn: uid=twin,ou=people,dc=example
objectClass: inetOrgPerson
uid: twin
cn: One
sn: Twin
userPassword: same

dn: uid=twin,ou=others,ou=people,dc=example
objectClass: inetOrgPerson
uid: twin
cn: Other
sn: Twin
userPassword: same

dn: ou=public,dc=example
objectClass: organizationalUnit
ou: public

dn: uid=open,ou=public,dc=example
objectClass: inetOrgPerson
uid: open
cn: Open
sn: Open
userPassword: sesame

dn: ou=groups,dc=example
objectClass: organizationalUnit
ou: groups

dn: cn=team,ou=groups,dc=example
objectClass: groupOfNames
cn: team
cn: crew
member: uid=ada,ou=people,dc=example
member: cn=Hopper\2C Grace (Navy) * Ü {user},ou=people,dc=example

dn: cn=no name!,ou=groups,dc=example
objectClass: groupOfNames
cn: no name!
member: uid=ada,ou=people,dc=example

dn: cn=navy,ou=groups,dc=example
objectClass: groupOfNames
objectClass: uidObject
cn: navy
uid: grace
member: cn=Hopper\2C Grace (Navy) * Ü {user},ou=people,dc=example
";

/// `{folder}` and `{security}` are filled in. A bind without a password succeeds, as many servers have it. Only who searches sees people; what is public, everybody.
const CONFIGURATION: &str = "
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCACertificateFile {folder}/ca.pem
TLSCertificateFile {folder}/server.pem
TLSCertificateKeyFile {folder}/server.key
allow bind_anon_cred
{security}
database mdb
suffix dc=example
directory {folder}/data
maxsize 16777216
access to attrs=userPassword by anonymous auth by * none
access to dn.subtree=ou=public,dc=example by * read
access to dn.subtree=dc=example by dn.exact=cn=searcher,dc=example read by * none
";

/// What kinds of certificates there are, for `openssl req`.
const CERTIFICATES: &str = "
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
[server]
basicConstraints = critical, CA:FALSE
subjectAltName = DNS:localhost
";

/// How long the server may take to be there.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A running server. It speaks on `localhost`.
pub(super) struct Slapd {
    process: Child,
    folder: TempDir,
    port: u16,
    tls_port: u16,
}

impl Slapd {
    /// Starts one, with a line of configuration of its own.
    pub(super) fn start(security: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("data")).unwrap();
        make_certificates(folder.path());
        let configuration = CONFIGURATION
            .replace("{folder}", &folder.path().display().to_string())
            .replace("{security}", security);
        std::fs::write(path("slapd.conf"), configuration).unwrap();
        std::fs::write(path("entries.ldif"), ENTRIES).unwrap();
        // A copy, for where AppArmor keeps the program in its usual place from reading other folders.
        std::fs::copy(program(), path("slapd")).unwrap();
        let command = |arguments: &[&str]| {
            let mut command = Command::new(path("slapd"));
            command
                .current_dir(folder.path())
                .args(arguments)
                .args(["-f", "slapd.conf"])
                .stdin(Stdio::null());
            command
        };
        run(&mut command(&["-T", "add", "-l", "entries.ldif"]));
        let (port, tls_port) = (free_port(), free_port());
        let urls = format!("ldap://localhost:{port} ldaps://localhost:{tls_port}");
        // Keeps it in the foreground.
        let process = retried(|| command(&["-d", "0", "-h", &urls]).stderr(Stdio::null()).spawn()).unwrap();
        let mut server = Self { process, folder, port, tls_port };
        server.wait();
        server
    }

    fn wait(&mut self) {
        let began = Instant::now();
        while [self.port, self.tls_port].iter().any(|port| TcpStream::connect(("localhost", *port)).is_err())
        {
            assert!(self.process.try_wait().unwrap().is_none(), "slapd has ended");
            assert!(began.elapsed() < START_LIMIT, "slapd does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(super) fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Without TLS to begin with.
    pub(super) fn plain(&self) -> String {
        format!("ldap://localhost:{}", self.port)
    }

    pub(super) fn tls(&self) -> String {
        format!("ldaps://localhost:{}", self.tls_port)
    }

    /// Who signed its certificate.
    pub(super) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// An administrator's program, which the PATH of others leaves out.
fn program() -> PathBuf {
    let found = ["/usr/sbin/slapd", "/usr/lib/openldap/slapd", "/usr/libexec/slapd"].map(PathBuf::from);
    found.into_iter().find(|path| path.exists()).expect("slapd is not installed: scripts/need.sh slapd")
}

fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn make_certificates(folder: &Path) {
    std::fs::write(folder.join("openssl.cnf"), CERTIFICATES).unwrap();
    let make = |name: &str, extensions: &str, signer: &[&str]| {
        let mut command = Command::new("openssl");
        command.current_dir(folder);
        command.args(["req", "-config", "openssl.cnf", "-x509", "-nodes", "-days", "2"]);
        command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        command.args(["-subj", &format!("/CN={name}"), "-extensions", extensions]);
        command.args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")]);
        run(command.args(signer));
    };
    make("ca", "authority", &[]);
    make("server", "server", &["-CA", "ca.pem", "-CAkey", "ca.key"]);
}

/// A program that was copied just now may still be open for writing in a process that another test is starting.
fn retried<T>(mut start: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    for _ in 0..100 {
        match start() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
    start()
}

fn run(command: &mut Command) {
    let output = retried(|| command.output()).expect("scripts/need.sh slapd installs slapd and openssl");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
