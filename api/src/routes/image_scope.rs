//! Whose images a request is about, and which of them it is shown.

use std::collections::BTreeSet;

use basalt_model::ProjectName;
use basalt_model::image::Image;

use crate::call::Call;
use crate::error::Error;

/// Images that a request is about.
#[derive(Debug)]
pub(crate) struct Scope {
    /// Those of one project, or of all.
    of: Option<ProjectName>,
    /// Where the caller sees them all: elsewhere only what is public.
    open: BTreeSet<ProjectName>,
}

impl Scope {
    /// Whether an image is among them.
    pub(crate) fn shows(&self, image: &Image) -> bool {
        let meant = self.of.as_ref().is_none_or(|of| *of == image.project);
        meant && (image.public || self.open.contains(&image.project))
    }
}

impl Call {
    /// The images of the request's project. Whoever may not see that project is shown what is public in it; one that does
    /// not exist looks to him like one that has no images of its own.
    ///
    /// # Errors
    /// It does not exist, and the caller may know.
    pub(crate) fn image_scope(&self) -> Result<Scope, Error> {
        match self.project() {
            Ok(project) => {
                let of = self.view.image_project(&project);
                let open = self.who.trusted().then(|| of.clone()).into_iter().collect();
                Ok(Scope { of: Some(of), open })
            }
            Err(error) if self.who.full() => Err(error),
            Err(_) => {
                let named = self.query("project").and_then(|name| ProjectName::new(name).ok());
                let of = self.view.image_project(&named.unwrap_or_else(ProjectName::default_project));
                Ok(Scope { of: Some(of), open: BTreeSet::new() })
            }
        }
    }

    /// The images that a list covers: those of one project, or with `all-projects` of every one.
    ///
    /// # Errors
    /// As [`Call::image_scope`] and [`Call::projects`].
    pub(crate) fn listed_images(&self) -> Result<Scope, Error> {
        if !self.flag("all-projects") {
            return self.image_scope();
        }
        let seen = self.projects()?;
        let seen = seen.iter().filter(|_| self.who.trusted());
        Ok(Scope { of: None, open: seen.map(|project| self.view.image_project(project)).collect() })
    }
}
