//! Who may touch an instance, or what is in a project: the certificates that the cluster trusts with it.

use basalt_model::ProjectName;
use basalt_model::identity::{Certificate, CertificateKind};

use crate::call::{Call, Segment};
use crate::dto::access::Entry;
use crate::error::Error;
use crate::reply::{self, Reply};

/// The certificate's part in the project, if it has one.
fn entry(certificate: &Certificate, project: &ProjectName) -> Option<Entry> {
    let role = match certificate.kind {
        // Figures are all that it sees.
        CertificateKind::Metrics => return None,
        CertificateKind::Client if !certificate.restricted => "admin",
        CertificateKind::Client if certificate.projects.contains(project) => "operator",
        CertificateKind::Client => return None,
    };
    Some(Entry { identifier: certificate.fingerprint.to_string(), role: role.into(), provider: "tls".into() })
}

fn answer(call: &Call, project: &ProjectName) -> Reply {
    let entries = call.view.certificates.values().filter_map(|c| entry(c, project));
    reply::sync(entries.collect::<Vec<_>>())
}

pub(crate) async fn instance(call: Call, Segment(name): Segment<String>) -> Reply {
    let instance = call.instance(&name)?;
    answer(&call, &instance.project)
}

pub(crate) async fn project(call: Call, Segment(name): Segment<String>) -> Reply {
    let missing = || Error::NotFound("Project".into());
    let name = ProjectName::new(name).map_err(|_| missing())?;
    match call.view.projects.contains_key(&name) && call.who.sees(&name) {
        true => answer(&call, &name),
        false => Err(missing()),
    }
}
