//! The server, the cluster, its members and groups.

use http::Method;

use basalt_api::dto::cluster::{
    Cluster, Group, GroupPut, JoinToken, Member, MemberName, MemberPut, MemberState, MemberStatePost, Put,
};
use basalt_api::dto::operation::Operation;
use basalt_api::dto::resources::Resources;
use basalt_api::dto::server::{self, Server};

use crate::client::{Client, Tagged};
use crate::error::Result;
use crate::path::Path;
use crate::token::{self, Token};

fn members() -> Path {
    Path::of("cluster/members")
}

fn groups() -> Path {
    Path::of("cluster/groups")
}

impl Client {
    /// The server; of the client's target, if it has one.
    pub async fn server(&self) -> Result<Tagged<Server>> {
        self.get_tagged(Path::root()).await
    }

    /// Replaces the server's configuration.
    pub async fn replace_server(&self, wanted: &server::Put, etag: Option<&str>) -> Result<()> {
        self.replace(Path::root(), wanted, etag).await
    }

    /// What the machine has.
    pub async fn resources(&self) -> Result<Resources> {
        self.get(Path::of("resources")).await
    }

    /// Whether there is a cluster, and what this member is called in it.
    pub async fn cluster(&self) -> Result<Cluster> {
        self.get(Path::of("cluster")).await
    }

    /// Makes a cluster of this machine alone. Only over its unix socket.
    pub async fn bootstrap(&self, name: &str, address: &str) -> Result<Operation> {
        let wanted =
            Put { server_name: name.to_owned(), server_address: address.to_owned(), enabled: true, ..Put::default() };
        self.start(Method::PUT, Path::of("cluster"), Some(&wanted)).await
    }

    /// Makes this machine a member of the cluster of `token`. Only over its unix socket.
    pub async fn join(&self, token: &JoinToken, address: &str) -> Result<Operation> {
        let wanted = Put {
            server_name: token.server_name.clone(),
            server_address: address.to_owned(),
            cluster_token: token.encode(),
            enabled: true,
            ..Put::default()
        };
        self.start(Method::PUT, Path::of("cluster"), Some(&wanted)).await
    }

    /// A token with which one machine of this name can join.
    pub async fn join_token(&self, name: &str) -> Result<JoinToken> {
        let body = MemberName { server_name: name.to_owned() };
        token::join_token(&self.start(Method::POST, members(), Some(&body)).await?)
    }

    /// All members.
    pub async fn members(&self) -> Result<Vec<Member>> {
        self.get(members().with("recursion", "1")).await
    }

    /// One member, to be written back.
    pub async fn member(&self, name: &str) -> Result<Tagged<Member>> {
        self.get_tagged(members().segment(name)).await
    }

    /// Its load and the space of its pools.
    pub async fn member_state(&self, name: &str) -> Result<MemberState> {
        self.get(members().segment(name).segment("state")).await
    }

    /// Replaces roles, failure domain, groups, configuration.
    pub async fn replace_member(&self, name: &str, wanted: &MemberPut, etag: Option<&str>) -> Result<()> {
        self.replace(members().segment(name), wanted, etag).await
    }

    /// Renames a member.
    pub async fn rename_member(&self, name: &str, to: &str) -> Result<()> {
        let body = MemberName { server_name: to.to_owned() };
        self.apply(Method::POST, members().segment(name), Some(&body)).await
    }

    /// Begins to empty a member (`evacuate`, with a mode) or to fill it again (`restore`).
    pub async fn member_action(&self, name: &str, action: &str, mode: &str) -> Result<Operation> {
        let body = MemberStatePost { action: action.to_owned(), mode: mode.to_owned() };
        self.start(Method::POST, members().segment(name).segment("state"), Some(&body)).await
    }

    /// Takes a member out of the cluster; with `force` a dead one, and its instances with it.
    pub async fn remove_member(&self, name: &str, force: bool) -> Result<()> {
        let path = members().segment(name).with_some("force", force.then_some("1"));
        self.apply(Method::DELETE, path, None::<&()>).await
    }

    /// All groups.
    pub async fn groups(&self) -> Result<Vec<Group>> {
        self.get(groups().with("recursion", "1")).await
    }

    /// One group, to be written back.
    pub async fn group(&self, name: &str) -> Result<Tagged<Group>> {
        self.get_tagged(groups().segment(name)).await
    }

    /// Makes a group.
    pub async fn create_group(&self, wanted: &Group) -> Result<()> {
        self.apply(Method::POST, groups(), Some(wanted)).await
    }

    /// Replaces description and members of a group.
    pub async fn replace_group(&self, name: &str, wanted: &GroupPut, etag: Option<&str>) -> Result<()> {
        self.replace(groups().segment(name), wanted, etag).await
    }

    /// Deletes a group.
    pub async fn delete_group(&self, name: &str) -> Result<()> {
        self.apply(Method::DELETE, groups().segment(name), None::<&()>).await
    }
}
