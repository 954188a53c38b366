//! Images of projects, case by case: whose an image is, what its files are shared by, what a project may change.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure here is a failure of the test")]

use std::collections::{BTreeMap, BTreeSet};

use basalt_model::command::{
    ClusterCommand, ImageCommand, Init, InstanceCommand, MemberCommand, PoolCommand, ProjectCommand,
};
use basalt_model::image::{Alias, Edit, Format, Image};
use basalt_model::instance::{Instance, Kind, Origin, Placement, Run, Spec, Target};
use basalt_model::member::{Announcement, Duty, Health, Member};
use basalt_model::pool::{Pool, PoolKind};
use basalt_model::project::Project;
use basalt_model::secrets::Secrets;
use basalt_model::{
    AliasKey, AliasName, ClusterState, Command, Fingerprint, Generation, ImageKey, InstanceId, InstanceName,
    MemberName, NodeId, PoolName, ProfileName, ProjectName, Rejected, Timestamp, invariant, warning,
};
use uuid::Uuid;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn project(name: &str) -> ProjectName {
    ProjectName::new(name).unwrap()
}

fn print(digit: char) -> Fingerprint {
    Fingerprint::new(digit.to_string().repeat(64)).unwrap()
}

/// `a`, or `own/a`: the image whose fingerprint is so many of that digit.
fn key(text: &str) -> ImageKey {
    let (of, digit) = text.split_once('/').unwrap_or(("default", text));
    ImageKey { project: project(of), name: print(digit.chars().next().unwrap()) }
}

fn alias(text: &str) -> AliasKey {
    AliasKey::try_from(text.to_owned()).unwrap()
}

/// Three members, a pool, and three projects: `own` and `other` have images of their own, `plain` none.
struct World(ClusterState);

impl World {
    fn new() -> Self {
        let member = |id: u64| Member {
            id: NodeId(id),
            name: MemberName::new(format!("node{id}")).unwrap(),
            certificate: Fingerprint::new(format!("{id:064x}")).unwrap(),
            certificate_pem: String::new(),
            joined_at: Timestamp(1),
            redeemed: None,
            awaited: false,
            duty: Duty::Active,
            order: None,
            health: Health::Online,
            failure_domain: String::new(),
            description: String::new(),
            groups: BTreeSet::new(),
            roles: BTreeSet::new(),
            config: BTreeMap::new(),
            announced: Announcement { feature_level: 2, ..Announcement::default() },
        };
        let cluster_id = Uuid::from_u128(7);
        let init = Init { cluster_id, secrets: Secrets::default(), member: member(1), at: Timestamp(1) };
        let mut world = World(ClusterState::default());
        world.ok(Command::Cluster(ClusterCommand::Init(Box::new(init))));
        for id in 2..=3 {
            // As if it had joined.
            world.0.members.insert(NodeId(id), member(id));
            world.0.next_node = id + 1;
        }
        world.ok(Command::Pool(PoolCommand::Add(Pool {
            name: PoolName::new("local").unwrap(),
            kind: PoolKind::Dir,
            description: String::new(),
            config: BTreeMap::new(),
            member_config: BTreeMap::new(),
            status: BTreeMap::new(),
            generation: Generation(1),
        })));
        for (name, feature) in [("own", "true"), ("other", "1"), ("plain", "false")] {
            world.ok(add_project(name, &[("features.images", feature)]));
        }
        world
    }

    fn ok(&mut self, command: Command) {
        self.0.apply(&command).unwrap_or_else(|e| panic!("{command:?}: {e}"));
        assert_eq!(invariant::check(&self.0), Vec::<String>::new(), "after {command:?}");
    }

    /// What a refusal says; it must leave no trace.
    fn refused(&mut self, command: Command) -> String {
        let before = self.0.clone();
        let why = self.0.apply(&command).expect_err(&format!("{command:?}"));
        assert_eq!(self.0, before, "{command:?}");
        why.to_string()
    }

    fn holders(&self, id: &str) -> Vec<u64> {
        self.0.images.get(&key(id)).unwrap().holders.iter().map(|node| node.0).collect()
    }

    fn images(&self) -> Vec<String> {
        self.0.images.keys().map(|id| id.to_string().chars().filter(|c| *c != 'a').collect()).collect()
    }
}

fn add_project(name: &str, config: &[(&str, &str)]) -> Command {
    Command::Project(ProjectCommand::Add(Project {
        name: project(name),
        description: String::new(),
        config: map(config),
        created_at: Timestamp(1),
        generation: Generation(1),
    }))
}

fn update_project(name: &str, config: &[(&str, &str)]) -> Command {
    let (name, config) = (project(name), map(config));
    Command::Project(ProjectCommand::Update { name, expect: None, description: String::new(), config })
}

fn image(id: &str, holders: &[u64]) -> Image {
    let ImageKey { project, name } = key(id);
    Image {
        project,
        fingerprint: name,
        kind: Kind::Container,
        architecture: "x86_64".into(),
        format: Format::Unified,
        filename: String::new(),
        size: 1,
        public: false,
        properties: BTreeMap::new(),
        created_at: Timestamp(1),
        uploaded_at: Timestamp(1),
        expires_at: Timestamp::NEVER,
        last_used_at: Timestamp::NEVER,
        holders: holders.iter().copied().map(NodeId).collect(),
        cached: false,
        auto_update: false,
        update_source: None,
        profiles: None,
    }
}

fn add(id: &str, holders: &[u64]) -> Command {
    Command::Image(ImageCommand::Add(Box::new(image(id, holders))))
}

fn remove(id: &str) -> Command {
    Command::Image(ImageCommand::Remove(key(id)))
}

fn set_alias(text: &str, digit: char) -> Command {
    let AliasKey { project, name } = alias(text);
    let alias = Alias { project, name, target: print(digit), description: String::new() };
    Command::Image(ImageCommand::SetAlias { alias, replace: false })
}

fn create(of: &str, name: &str, origin: Origin) -> (InstanceId, Command) {
    let id = InstanceId(Uuid::from_u128(name.bytes().map(u128::from).sum::<u128>() + of.len() as u128 * 1000));
    let root = map(&[("type", "disk"), ("path", "/"), ("pool", "local")]);
    let create = Command::Instance(InstanceCommand::Create(Box::new(Instance {
        id,
        project: project(of),
        name: InstanceName::new(name).unwrap(),
        created_at: Timestamp(50),
        last_used_at: Timestamp(0),
        generation: Generation(1),
        spec: Spec {
            kind: Kind::Container,
            architecture: "x86_64".into(),
            origin,
            description: String::new(),
            ephemeral: false,
            config: BTreeMap::new(),
            devices: [("root".to_owned(), root)].into(),
            profiles: vec![ProfileName::default_profile()],
        },
        target: Target::Any,
        run: Run::stopped(),
        placement: Placement::Unplaced { refused: None },
        report: None,
        errands: Default::default(),
    })));
    (id, create)
}

#[test]
fn the_same_files_are_another_image_in_each_project() {
    let mut world = World::new();
    world.ok(add("a", &[1]));
    world.ok(add("own/a", &[2]));
    world.ok(add("other/b", &[3]));
    assert!(world.refused(add("own/a", &[1])).contains("already exists"));
    assert!(world.refused(add("plain/a", &[1])).contains("features.images is not set"));
    assert_eq!(world.refused(add("nowhere/a", &[1])), "project not found: nowhere");
    let edit = Edit {
        public: true,
        auto_update: false,
        cached: true,
        expires_at: Timestamp(9),
        properties: map(&[("os", "Mine")]),
        profiles: None,
    };
    world.ok(Command::Image(ImageCommand::Edit { image: key("own/a"), edit: Box::new(edit) }));
    let shared = world.0.images.get(&key("a")).unwrap();
    assert!(!shared.public && !shared.cached && shared.properties.is_empty());
    world.ok(set_alias("debian/12", 'a'));
    world.ok(set_alias("debian/12?project=own", 'a'));
    world.ok(set_alias("debian/12?project=other", 'b'));
    assert!(world.refused(set_alias("debian/12?project=own", 'a')).contains("already exists"));
    assert!(world.refused(set_alias("x?project=own", 'b')).contains("not found"));
    assert!(world.refused(set_alias("x?project=plain", 'a')).contains("not found"));
    let found = |of: &str, text: &str| world.0.find_image(&project(of), text);
    assert_eq!(found("own", "debian/12"), Some(key("own/a")));
    assert_eq!(found("other", "debian/12"), Some(key("other/b")));
    assert_eq!(found("plain", "debian/12"), Some(key("a")));
    assert_eq!((found("other", "a"), found("other", "bb")), (None, Some(key("other/b"))));
    // What goes in one project stays in the others.
    let rename = |to: &str| ImageCommand::RenameAlias { name: alias("debian/12?project=own"), to: alias(to).name };
    world.ok(Command::Image(rename("bookworm")));
    world.ok(remove("a"));
    assert_eq!(world.0.find_image(&project("plain"), "debian/12"), None);
    assert_eq!(world.0.find_image(&project("own"), "bookworm"), Some(key("own/a")));
    assert!(world.0.image_with(&print('a')).is_some());
    world.ok(Command::Image(ImageCommand::Expire { image: key("own/a"), unused_since: Timestamp(1) }));
    assert_eq!((world.0.aliases.len(), world.0.image_with(&print('a'))), (1, None));
}

#[test]
fn whoever_has_the_files_has_them_for_all() {
    let mut world = World::new();
    world.ok(add("a", &[1]));
    world.ok(add("own/a", &[2]));
    assert_eq!((world.holders("a"), world.holders("own/a")), (vec![1, 2], vec![1, 2]));
    let holder = |node| ImageCommand::AddHolder { fingerprint: print('a'), node: NodeId(node) };
    world.ok(Command::Image(holder(3)));
    let drops = |node| Command::Image(ImageCommand::DropHolder { fingerprint: print('a'), node: NodeId(node) });
    world.ok(drops(1));
    assert_eq!((world.holders("a"), world.holders("own/a")), (vec![2, 3], vec![2, 3]));
    world.ok(Command::Member(MemberCommand::Remove { id: NodeId(2), force: true }));
    assert!(world.refused(drops(3)).contains("only copy"));
    let divided = Image { format: Format::Split, ..image("other/a", &[1]) };
    let why = world.refused(Command::Image(ImageCommand::Add(Box::new(divided))));
    assert!(why.starts_with("fingerprint: "), "{why}");
    // Both are told of, each to its own.
    let set = [("cluster.images_minimal_replica".to_owned(), Some("2".to_owned()))].into();
    world.ok(Command::Cluster(ClusterCommand::SetConfig { set, expect: None }));
    let causes = warning::causes(&world.0, &[]);
    let missing = causes.keys().filter(|cause| cause.kind == warning::Kind::ImageReplicas);
    let projects: Vec<_> = missing.map(|cause| cause.project.as_ref().map(ToString::to_string)).collect();
    assert_eq!(projects, [None, Some("own".to_owned())]);
    world.ok(Command::Member(MemberCommand::Remove { id: NodeId(3), force: true }));
    assert_eq!(world.images(), Vec::<String>::new());
}

#[test]
fn instances_are_made_from_images_of_their_project() {
    let mut world = World::new();
    world.ok(add("a", &[1]));
    world.ok(add("own/b", &[1]));
    world.ok(add("b", &[1]));
    for (of, digit) in [("own", 'a'), ("other", 'a'), ("other", 'b')] {
        let why = world.refused(create(of, "c1", Origin::Image(print(digit))).1);
        assert!(why.starts_with("image not found: "), "{why}");
    }
    let (id, made) = create("own", "c1", Origin::Image(print('b')));
    world.ok(made);
    world.ok(create("plain", "c1", Origin::Image(print('a'))).1);
    let used = |id: &str| world.0.images.get(&key(id)).unwrap().last_used_at;
    assert_eq!((used("own/b"), used("b"), used("a")), (Timestamp(50), Timestamp::NEVER, Timestamp(50)));
    // Only what an instance is being made from stays.
    world.ok(remove("b"));
    for id in ["a", "own/b"] {
        assert!(world.refused(remove(id)).contains("instance c1 is being created from this image"));
    }
    assert!(world.0.instances.contains_key(&id));
}

#[test]
fn whose_images_a_project_has_is_fixed_once_it_holds_any() {
    let mut world = World::new();
    world.ok(add("own/a", &[1]));
    world.ok(set_alias("x?project=own", 'a'));
    let why = world.refused(update_project("own", &[]));
    assert_eq!(why, format!("features.images cannot be changed: the project has image {}", print('a')));
    // All but that may change, and the same word for yes is none.
    world.ok(update_project("own", &[("features.images", "yes"), ("user.a", "b")]));
    let gone = Command::Project(ProjectCommand::Remove(project("own")));
    assert_eq!(world.refused(gone.clone()), "only empty projects can be renamed or removed");
    // Images follow a project to its new name.
    world.ok(Command::Project(ProjectCommand::Rename { name: project("own"), to: project("new") }));
    assert_eq!(world.0.find_image(&project("new"), "x"), Some(key("new/a")));
    assert_eq!((world.0.images.len(), world.0.aliases.len()), (1, 1));
    world.ok(remove("new/a"));
    world.ok(update_project("new", &[]));
    world.ok(create("new", "c1", Origin::Empty).1);
    let why = world.refused(update_project("new", &[("features.images", "true")]));
    assert_eq!(why, "features.images cannot be changed: the project has instance c1");
    world.ok(Command::Project(ProjectCommand::Remove(project("other"))));
}

#[test]
fn members_of_level_1_know_nothing_of_it() {
    let levels = |command: &Command| command.feature_level();
    assert_eq!((levels(&add("a", &[1])), levels(&add("own/a", &[1]))), (1, 2));
    assert_eq!((levels(&remove("a")), levels(&remove("own/a"))), (1, 2));
    assert_eq!((levels(&set_alias("x", 'a')), levels(&set_alias("x?project=own", 'a'))), (1, 2));
    assert_eq!(levels(&add_project("own", &[("features.images", "true")])), 2);
    let mut old = ClusterState { feature_level: 1, ..ClusterState::default() };
    assert_eq!(old.apply(&remove("own/a")), Err(Rejected::FeatureLevel { needs: 2, at: 1 }));
}

/// What was written when all images were shared.
#[test]
fn states_of_before_are_read() {
    let fingerprint = print('a');
    let old = format!(
        r#"{{"images":[["{fingerprint}",{{"fingerprint":"{fingerprint}","kind":"container","architecture":"x86_64",
        "format":"Unified","filename":"","size":1,"public":false,"properties":{{}},"created_at":1,"uploaded_at":1,
        "expires_at":0,"last_used_at":0,"holders":[1]}}]],"aliases":[["debian/12",{{"name":"debian/12",
        "target":"{fingerprint}","description":""}}]]}}"#
    );
    let state: ClusterState = serde_json::from_str(&old).unwrap();
    assert_eq!(state.images.get(&key("a")), Some(&image("a", &[1])));
    let name = AliasName::new("debian/12").unwrap();
    assert_eq!(state.aliases.get(&AliasKey::in_default(name)).unwrap().image(), key("a"));
}
