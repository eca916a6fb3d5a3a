//! Links of several nodes to one twin, each with a state of its own.

use super::*;
use crate::shared::Kind;
use crate::shared::twin::{Client, Fate, Twin};
use crate::state::State;

/// A node without a daemon: its state, and what has come in force.
struct Home1 {
    state: State,
    put: Mutex<Vec<Item>>,
    /// Times that putting in force fails.
    fails: Mutex<usize>,
    /// Times that keeping fails.
    not_kept: Mutex<usize>,
    _folder: tempfile::TempDir,
}

#[async_trait]
impl Home for Home1 {
    async fn known(&self) -> Result<(Option<Membership>, Position), String> {
        Ok((
            self.state.membership().unwrap(),
            self.state.position().unwrap(),
        ))
    }

    async fn take(&self, change: Change, position: Position) -> Result<(), NotTaken> {
        if take_one(&self.not_kept) {
            return Err(NotTaken::NotKept("the disk is full".to_owned()));
        }
        let here = self.state.follow(&change, position).unwrap();
        self.put(here)
    }

    async fn adopt(
        &self,
        entries: Vec<(Item, Revision)>,
        position: Position,
    ) -> Result<(), NotTaken> {
        if take_one(&self.not_kept) {
            return Err(NotTaken::NotKept("the disk is full".to_owned()));
        }
        let here = self.state.adopt(&entries, position, None).unwrap();
        self.put(here)
    }

    async fn put_again(&self, keys: Vec<String>) -> Result<(), String> {
        let change = self.state.as_kept(&keys).unwrap();
        let put = self.put(change);
        put.map_err(|not| format!("{not:?}"))
    }
}

/// Whether there is one left, which is gone then.
fn take_one(left: &Mutex<usize>) -> bool {
    let mut left = lock(left);
    let is_left = *left > 0;
    *left -= usize::from(is_left);
    is_left
}

impl Home1 {
    fn put(&self, change: Change) -> Result<(), NotTaken> {
        if take_one(&self.fails) {
            let why = "a test wants it to fail".to_owned();
            return Err(NotTaken::NotInForce(change.keys(), why));
        }
        lock(&self.put).extend(change.0);
        Ok(())
    }
}

struct Node1 {
    link: Arc<Link>,
    home: Arc<Home1>,
    client: Client,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Node1 {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Node1 {
    fn start(twin: &Twin, name: &str, home: Arc<Home1>) -> Self {
        let client = twin.client();
        let link = Arc::new(Link::new(
            Arc::new(client.clone()),
            name.to_owned(),
            Duration::ZERO,
        ));
        let (of_task, at) = (Arc::clone(&link), Arc::clone(&home));
        let task = tokio::spawn(async move { match of_task.follow(&*at).await {} });
        Self {
            link,
            home,
            client,
            task,
        }
    }

    /// Waits until the link is in a condition.
    async fn is(&self, wanted: impl Fn(&Condition) -> bool) -> Condition {
        let mut views = self.link.views();
        let view = timeout(
            Duration::from_secs(60),
            views.wait_for(|view| wanted(&view.condition)),
        );
        view.await.unwrap().unwrap().condition.clone()
    }

    async fn has_all_in_force(&self) {
        let mut views = self.link.views();
        let all = views.wait_for(|view| view.failed.is_empty());
        timeout(Duration::from_secs(600), all)
            .await
            .unwrap()
            .unwrap();
    }

    async fn follows(&self) {
        self.is(|condition| *condition == Condition::Following)
            .await;
    }

    async fn set(&self, prefix: &str, mirror: &str) -> Result<Revision, Failed> {
        let item = over(prefix, mirror);
        let key = item.key();
        let known = self
            .home
            .state
            .revisions(std::slice::from_ref(&key))
            .unwrap()[0];
        let guard = self.home.state.membership().unwrap().unwrap().guard;
        let write = Write::new()
            .guard(GUARD, Some(guard))
            .guard(key.clone(), known);
        let revision = self
            .link
            .commit(&write.put(key, item.value().unwrap()))
            .await?;
        self.link
            .in_force(revision)
            .await
            .map_err(Failed::Refused)?;
        Ok(revision)
    }

    fn overrides(&self) -> Vec<(String, String)> {
        let overrides = self.home.state.overrides().unwrap().into_iter();
        overrides
            .map(|one| (one.prefix.to_string(), one.mirror))
            .collect()
    }
}

fn over(prefix: &str, mirror: &str) -> Item {
    Item::Override {
        pool: "www".to_owned(),
        prefix: prefix.parse().unwrap(),
        mirror: Some(mirror.to_owned()),
    }
}

async fn home(twin: &Twin) -> Arc<Home1> {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(&folder.path().join("state.redb")).unwrap();
    let snapshot = twin.client().snapshot().await.unwrap();
    let guard = snapshot.entries.iter().find(|entry| entry.key == GUARD);
    if let Some(guard) = guard {
        let membership = Membership {
            fleet: String::from_utf8(guard.value.clone()).unwrap(),
            guard: guard.changed,
            node: format!("{:x}", rand::random::<u64>()),
        };
        state
            .adopt(&things(&snapshot), snapshot.position, Some(&membership))
            .unwrap();
    }
    Arc::new(Home1 {
        state,
        put: Mutex::default(),
        fails: Mutex::new(0),
        not_kept: Mutex::new(0),
        _folder: folder,
    })
}

async fn fleet() -> Twin {
    let twin = Twin::new();
    let write = Write::new().guard(GUARD, None).put(GUARD, "one");
    twin.client().commit(&write).await.unwrap();
    twin
}

async fn two() -> (Twin, Node1, Node1) {
    let twin = fleet().await;
    let a = Node1::start(&twin, "a", home(&twin).await);
    let b = Node1::start(&twin, "b", home(&twin).await);
    a.follows().await;
    b.follows().await;
    (twin, a, b)
}

const A: &str = "192.0.2.0/24";
const B: &str = "198.51.100.0/24";

fn pair(prefix: &str, mirror: &str) -> (String, String) {
    (prefix.to_owned(), mirror.to_owned())
}

#[tokio::test(start_paused = true)]
async fn an_edit_of_one_is_in_force_on_all_in_order() {
    let (_twin, a, b) = two().await;
    for mirror in ["ams", "iad", "sin"] {
        let revision = a.set(A, mirror).await.unwrap();
        b.link.in_force(revision).await.unwrap();
    }
    let put = lock(&b.home.put).clone();
    assert_eq!(put, ["ams", "iad", "sin"].map(|mirror| over(A, mirror)));
    assert_eq!(a.overrides(), b.overrides());
}

#[tokio::test(start_paused = true)]
async fn of_two_edits_of_the_same_one_is_first_and_the_other_knows() {
    let (_twin, a, b) = two().await;
    // b does not know of a's edit yet.
    b.client.delay(Duration::from_millis(500));
    a.set(A, "ams").await.unwrap();
    let Err(Failed::Conflict(revision)) = b.set(A, "iad").await else {
        panic!("no conflict");
    };
    b.link.in_force(revision).await.unwrap();
    assert_eq!(b.overrides(), [pair(A, "ams")]);
    b.set(A, "iad").await.unwrap();
    assert_eq!(b.overrides(), [pair(A, "iad")]);
}

#[tokio::test(start_paused = true)]
async fn without_the_store_edits_are_refused_at_once_and_afterwards_nothing_is_missing() {
    let (_twin, a, b) = two().await;
    b.client.trouble(Some(Kind::NoQuorum));
    b.is(|condition| matches!(condition, Condition::Broken(_)))
        .await;
    sleep(Duration::from_secs(12)).await;
    let Err(Failed::Refused(why)) = b.set(A, "iad").await else {
        panic!("not refused");
    };
    assert!(
        why.starts_with("nothing has changed: the fleet's store is of no use for 12 s"),
        "{why}"
    );
    let revision = a.set(A, "ams").await.unwrap();
    b.client.trouble(None);
    b.link.in_force(revision).await.unwrap();
    b.follows().await;
    assert_eq!(b.overrides(), [pair(A, "ams")]);
}

#[tokio::test(start_paused = true)]
async fn an_edit_whose_answer_is_lost_is_made_once() {
    let (twin, a, b) = two().await;
    let before = twin.revision();
    a.client
        .fates([Fate::AnswerLost, Fate::RequestLost, Fate::AnswerLost]);
    let revision = a.set(A, "ams").await.unwrap();
    assert_eq!(
        (revision.0, twin.revision().0),
        (before.0 + 1, before.0 + 1)
    );
    b.link.in_force(revision).await.unwrap();
    // The store goes away while the outcome is not known.
    a.client.fates([Fate::AnswerLost]);
    let client = a.client.clone();
    let cut = async move {
        sleep(Duration::from_millis(50)).await;
        client.trouble(Some(Kind::Unreachable));
    };
    let (outcome, ()) = tokio::join!(a.set(B, "ams"), cut);
    let Err(Failed::Refused(why)) = outcome else {
        panic!("acknowledged");
    };
    assert!(
        why.starts_with("the change may have been made, or not"),
        "{why}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_away_goes_on_where_it_was_also_if_that_is_compacted() {
    for compacted in [false, true] {
        let (twin, a, b) = two().await;
        a.set(A, "ams").await.unwrap();
        let revision = a.set(B, "ams").await.unwrap();
        b.link.in_force(revision).await.unwrap();
        let at = Arc::clone(&b.home);
        drop(b);
        lock(&at.put).clear();
        a.set(A, "iad").await.unwrap();
        if compacted {
            twin.compact();
        }
        let b = Node1::start(&twin, "b", at);
        b.follows().await;
        assert_eq!(*lock(&b.home.put), [over(A, "iad")], "{compacted}");
        assert_eq!(a.overrides(), b.overrides());
        let key = over(A, "iad").key();
        let known = [&a, &b].map(|node| {
            node.home
                .state
                .revisions(std::slice::from_ref(&key))
                .unwrap()
        });
        assert_eq!(known[0], known[1]);
    }
}

/// A store in which another node changes its entry just before each snapshot.
struct Changing {
    store: Client,
    other: Client,
}

#[async_trait]
impl Shared for Changing {
    async fn snapshot(&self) -> Result<Snapshot, Lost> {
        let write = Write::new().put("node/other", "new");
        self.other.commit(&write).await.unwrap();
        self.store.snapshot().await
    }

    async fn below(&self, prefix: &str) -> Result<Snapshot, Lost> {
        self.store.below(prefix).await
    }

    async fn commit(&self, write: &Write) -> Result<Revision, Refused> {
        self.store.commit(write).await
    }

    async fn watch(&self, after: Position) -> Result<Watch, Lost> {
        self.store.watch(after).await
    }
}

#[tokio::test(start_paused = true)]
async fn entries_of_others_are_as_new_as_the_snapshot_after_a_compaction() {
    let (twin, a, b) = two().await;
    let at = Arc::clone(&b.home);
    drop(b);
    let write = Write::new().put("node/other", "old");
    a.client.commit(&write).await.unwrap();
    a.set(A, "iad").await.unwrap();
    twin.compact();
    let store = Changing {
        store: twin.client(),
        other: twin.client(),
    };
    let link = Link::new(Arc::new(store), "b".to_owned(), Duration::ZERO);
    let follows = async {
        let mut views = link.views();
        let following = |view: &View| view.condition == Condition::Following;
        views.wait_for(following).await.unwrap();
    };
    tokio::select! {
        never = link.follow(&*at) => match never {},
        () = follows => {}
    }
    let other = ("other".to_owned(), b"new".to_vec());
    assert!(link.below(node::PREFIX).contains(&other));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_went_back_is_not_followed_until_the_operator_says_so() {
    let (twin, a, _b) = two().await;
    let backup = twin.backup();
    a.set(A, "ams").await.unwrap();
    twin.restore(backup);
    let condition = a
        .is(|condition| matches!(condition, Condition::Stopped(_)))
        .await;
    let Condition::Stopped(why) = condition else {
        unreachable!()
    };
    assert!(why.contains("restored from a backup"), "{why}");
    assert_eq!(a.overrides(), [pair(A, "ams")]);
    let Err(Failed::Refused(why)) = a.set(A, "iad").await else {
        panic!("not refused");
    };
    assert!(why.contains("geodns fleet join"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn another_fleet_under_our_name_is_not_followed() {
    let (twin, a, _b) = two().await;
    a.set(A, "ams").await.unwrap();
    // Whoever made it has deleted ours by the same commit.
    let other = Write::new().put(GUARD, "two").delete(over(A, "ams").key());
    twin.client().commit(&other).await.unwrap();
    let Condition::Stopped(why) = a
        .is(|condition| matches!(condition, Condition::Stopped(_)))
        .await
    else {
        unreachable!()
    };
    assert!(
        why.contains("the fleet of this node is one, and the store has two"),
        "{why}"
    );
    assert_eq!(a.overrides(), [pair(A, "ams")]);
}

#[tokio::test(start_paused = true)]
async fn of_two_nodes_with_one_name_the_second_takes_no_part() {
    let (twin, a, b) = two().await;
    let node = Node {
        id: a.home.state.membership().unwrap().unwrap().node,
        site: Some("ams".to_owned()),
        ..Node::default()
    };
    let write = Write::new().put(node::key("a"), node.value());
    let revision = a.client.commit(&write).await.unwrap();
    b.link.in_force(revision).await.unwrap();
    assert_eq!(b.link.nodes().keys().collect::<Vec<_>>(), ["a"]);
    let second = Node1::start(&twin, "a", home(&twin).await);
    let Condition::Stopped(why) = second.is(|is| matches!(is, Condition::Stopped(_))).await else {
        unreachable!()
    };
    assert!(
        why.contains("another node at site ams is named a, too"),
        "{why}"
    );
    a.set(A, "ams").await.unwrap();
    assert_eq!(second.overrides(), []);
    // The first goes.
    let gone = Write::new().delete(node::key("a"));
    a.client.commit(&gone).await.unwrap();
    second.follows().await;
    assert_eq!(second.overrides(), [pair(A, "ams")]);
}

#[tokio::test(start_paused = true)]
async fn of_two_runs_of_one_node_the_first_takes_no_part_while_the_second_runs() {
    let (_twin, a, b) = two().await;
    let id = a.home.state.membership().unwrap().unwrap().node;
    let put = |client: Client, run: &str| {
        let node = Node {
            id: id.clone(),
            run: run.to_owned(),
            ..Node::default()
        };
        let write = Write::new().put(node::key("a"), node.value());
        async move { client.commit(&write).await.unwrap() }
    };
    // One that has ended.
    put(b.client.clone(), "before").await;
    a.follows().await;
    let revision = put(a.client.clone(), &a.link.run).await;
    a.link.in_force(revision).await.unwrap();
    a.follows().await;
    // One that has begun since.
    put(b.client.clone(), "copy").await;
    let Condition::Stopped(why) = a.is(|is| matches!(is, Condition::Stopped(_))).await else {
        unreachable!()
    };
    assert!(why.contains("has a copy of the state of this one"), "{why}");
    let gone = Write::new().delete(node::key("a"));
    b.client.commit(&gone).await.unwrap();
    a.follows().await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_cannot_be_in_force_is_tried_again_and_does_not_stop_the_others() {
    let (_twin, a, b) = two().await;
    *lock(&b.home.fails) = 1;
    let revision = a.set(A, "ams").await.unwrap();
    b.link.in_force(revision).await.unwrap();
    assert_eq!(*lock(&b.home.put), [over(A, "ams")]);
    *lock(&b.home.fails) = TRIES;
    let revision = a.set(A, "iad").await.unwrap();
    let why = b.link.in_force(revision).await.unwrap_err();
    assert!(
        why.contains("could not be put in force here yet: a test wants"),
        "{why}"
    );
    assert_eq!(b.link.view().failed.len(), 1);
    let revision = a.set(B, "iad").await.unwrap();
    b.link.in_force(revision).await.unwrap();
    // It is kept all the same.
    assert_eq!(a.overrides(), b.overrides());
    assert!(!lock(&b.home.put).contains(&over(A, "iad")));
    // And in force later on, with no other edit.
    b.has_all_in_force().await;
    assert!(lock(&b.home.put).contains(&over(A, "iad")));
}

#[tokio::test(start_paused = true)]
async fn things_that_could_not_be_in_force_come_in_force_as_they_are_by_then() {
    let (_twin, a, b) = two().await;
    *lock(&b.home.fails) = usize::MAX;
    for prefix in [A, B] {
        let revision = a.set(prefix, "ams").await.unwrap();
        b.link.in_force(revision).await.ok();
    }
    assert_eq!(b.link.view().failed.len(), 2);
    // A later change of one of them comes in force by itself.
    *lock(&b.home.fails) = 0;
    let revision = a.set(B, "sin").await.unwrap();
    b.link.in_force(revision).await.unwrap();
    b.has_all_in_force().await;
    let put = lock(&b.home.put).clone();
    let last = |key: String| put.iter().rfind(|item| item.key() == key).cloned();
    for item in [over(A, "ams"), over(B, "sin")] {
        assert_eq!(last(item.key()), Some(item));
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_never_goes_on_behind_a_commit_that_is_not_on_its_disk() {
    for compacted in [false, true] {
        let (twin, a, b) = two().await;
        *lock(&b.home.not_kept) = 2 * TRIES;
        a.set(A, "ams").await.unwrap();
        let broken = b.is(|condition| matches!(condition, Condition::Broken(_)));
        let Condition::Broken(trouble) = broken.await else {
            unreachable!()
        };
        assert!(
            trouble.line.contains("is not kept here: the disk is full"),
            "{trouble}"
        );
        a.set(B, "ams").await.unwrap();
        if compacted {
            twin.compact();
        }
        b.follows().await;
        assert_eq!(a.overrides(), b.overrides());
        assert_eq!(b.overrides().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_not_joined_follows_nothing_and_changes_nothing() {
    let twin = Twin::new();
    let a = Node1::start(&twin, "a", home(&twin).await);
    a.is(|condition| *condition == Condition::NotJoined).await;
    let write = Write::new().put("block/1", "{}");
    let Err(Failed::Refused(why)) = a.link.commit(&write).await else {
        panic!("not refused");
    };
    assert!(why.contains("geodns fleet init"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_leaves_follows_nothing_from_then_on() {
    let (_twin, a, b) = two().await;
    a.follows().await;
    a.home.state.leave().unwrap();
    a.link.begin_anew();
    a.is(|condition| *condition == Condition::NotJoined).await;
    b.follows().await;
    b.set("192.0.2.0/24", "ams").await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert!(a.overrides().is_empty());
}
