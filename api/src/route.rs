//! The routing table: axum's router, which also remembers every path and verb that it was given, so that a test can
//! compare it with the OpenAPI document (see [`crate::openapi`]).

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::routing::MethodRouter;

use crate::api::Api;

/// What can be done with a path. A `HEAD` goes to the handler of `GET`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verb {
    Get,
    Put,
    Post,
    Patch,
    Delete,
}

/// The handlers of one path.
#[derive(Debug, Default)]
pub(crate) struct Verbs {
    handlers: MethodRouter<Arc<Api>>,
    known: Vec<Verb>,
}

macro_rules! verbs {
    ($($name:ident $verb:ident),*) => {
        $(
            /// A path with this verb; more can be chained.
            #[allow(dead_code)] // not every verb comes first somewhere
            pub(crate) fn $name<H, T>(handler: H) -> Verbs
            where
                H: Handler<T, Arc<Api>>,
                T: 'static,
            {
                Verbs::default().$name(handler)
            }
        )*
        impl Verbs {
            $(
                pub(crate) fn $name<H, T>(mut self, handler: H) -> Self
                where
                    H: Handler<T, Arc<Api>>,
                    T: 'static,
                {
                    self.handlers = self.handlers.$name(handler);
                    self.known.push(Verb::$verb);
                    self
                }
            )*
        }
    };
}

verbs!(get Get, put Put, post Post, patch Patch, delete Delete);

/// All paths.
#[derive(Debug, Default)]
pub(crate) struct Table {
    router: Router<Arc<Api>>,
    known: Vec<(String, Verb)>,
}

impl Table {
    pub(crate) fn new() -> Self {
        Table::default()
    }

    /// Adds a path.
    pub(crate) fn route(mut self, path: &str, verbs: Verbs) -> Self {
        self.known.extend(verbs.known.into_iter().map(|verb| (path.to_owned(), verb)));
        self.router = self.router.route(path, verbs.handlers);
        self
    }

    /// Adds the paths of another table.
    pub(crate) fn merge(mut self, other: Table) -> Self {
        self.known.extend(other.known);
        self.router = self.router.merge(other.router);
        self
    }

    pub(crate) fn into_router(self) -> Router<Arc<Api>> {
        self.router
    }

    /// Every path with every verb that it answers.
    #[cfg(test)]
    pub(crate) fn known(&self) -> &[(String, Verb)] {
        &self.known
    }
}
