use serde_json::json;

use super::*;

fn schema() -> Schema {
    let text = json!({"name": "D", "tables": {"T": {"columns": {
        "name": {"type": "string"},
        "up": {"type": {"key": "boolean", "min": 0, "max": 1}},
        "ports": {"type": {"key": "integer", "min": 0, "max": "unlimited"}},
        "ids": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}}}}});
    serde_json::from_value(text).unwrap()
}

fn feed() -> Feed {
    let feed = Feed::new(1, vec![MonitorTable::new("T", &["name", "up", "ports", "ids", "later"])]);
    let (asked, last) = feed.ask(&schema(), Dialect::Since);
    assert_eq!(serde_json::to_value(asked).unwrap(), json!({"T": [{"columns": ["ids", "name", "ports", "up"]}]}));
    assert_eq!(last, Uuid::nil());
    feed
}

const ROW: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);
const SEVEN: Uuid = Uuid::from_u128(7);

fn begin(feed: &Feed, answer: &serde_json::Value) -> Result<bool, String> {
    feed.begin(Dialect::Since, answer.to_string().as_bytes(), 3)
}

fn update(feed: &Feed, updates: serde_json::Value) -> Result<(), String> {
    feed.update(Some(SEVEN), serde_json::from_value(updates).unwrap())
}

fn row(feed: &Feed, id: Uuid) -> Option<Row> {
    feed.tables().unwrap().row("T", id).map(|row| Row::clone(row))
}

#[test]
fn rows_come_change_and_go() {
    let feed = feed();
    assert!(feed.tables().is_none());
    assert_eq!(
        begin(&feed, &json!([false, Uuid::nil(), {"T": {ROW.to_string(): {"initial": {"name": "a", "up": true}}}}])),
        Ok(false)
    );
    let first = feed.tables().unwrap();
    assert_eq!((first.generation(), first.epoch()), (1, 3));
    let wanted = Row::from([
        ("ids".into(), Datum::Map(BTreeMap::new())),
        ("name".into(), "a".into()),
        ("ports".into(), Datum::empty()),
        ("up".into(), true.into()),
    ]);
    assert_eq!(row(&feed, ROW), Some(wanted));
    let changed = json!({"name": "b", "up": false, "ports": ["set", [1, 2]], "ids": ["map", [["k", "v"]]]});
    update(&feed, json!({"T": {ROW.to_string(): {"modify": changed}, OTHER.to_string(): {"insert": {"name": "o"}}}}))
        .unwrap();
    let wanted = Row::from([
        ("ids".into(), Datum::map([("k", "v")])),
        ("name".into(), "b".into()),
        ("ports".into(), Datum::set([1, 2])),
        ("up".into(), false.into()),
    ]);
    assert_eq!(row(&feed, ROW), Some(wanted));
    update(&feed, json!({"T": {OTHER.to_string(): {"delete": null}}})).unwrap();
    assert_eq!(row(&feed, OTHER), None);
    // What somebody holds does not change under them.
    assert_eq!(first.row("T", ROW).unwrap()["name"], "a".into());
    assert_eq!(feed.tables().unwrap().generation(), 3);
    assert_eq!(*feed.generations().borrow(), 3);
}

#[test]
fn a_reconnect_goes_on_or_begins_anew() {
    let feed = feed();
    begin(&feed, &json!([false, SEVEN, {"T": {ROW.to_string(): {"initial": {"name": "a"}}}}])).unwrap();
    assert_eq!(feed.ask(&schema(), Dialect::Since).1, SEVEN);
    assert_eq!(begin(&feed, &json!([true, SEVEN, {"T": {OTHER.to_string(): {"insert": {}}}}])), Ok(true));
    assert!(row(&feed, ROW).is_some() && row(&feed, OTHER).is_some());
    assert_eq!(begin(&feed, &json!([false, SEVEN, {"T": {OTHER.to_string(): {"initial": {}}}}])), Ok(false));
    assert!(row(&feed, ROW).is_none() && row(&feed, OTHER).is_some());
    // The server was upgraded: what was read does not have the new column.
    let mut text =
        json!({"name": "D", "tables": {"T": {"columns": {"name": {"type": "string"}, "later": {"type": "string"}}}}});
    text["version"] = "2".into();
    assert_eq!(feed.ask(&serde_json::from_value(text).unwrap(), Dialect::Since).1, Uuid::nil());
}

#[test]
fn nonsense_changes_nothing() {
    let feed = feed();
    assert!(update(&feed, json!({})).is_err(), "before it was loaded");
    begin(&feed, &json!([false, SEVEN, {"T": {ROW.to_string(): {"initial": {"name": "a"}}}}])).unwrap();
    let before = feed.tables();
    let unknown =
        json!({"T": {ROW.to_string(): {"modify": {"name": "b"}}, OTHER.to_string(): {"modify": {"name": "b"}}}});
    assert!(update(&feed, unknown).is_err());
    assert!(update(&feed, json!({"U": {}})).is_err());
    assert!(begin(&feed, &json!([true, SEVEN])).is_err());
    assert!(begin(&feed, &json!([true, SEVEN, {"T": {OTHER.to_string(): {"modify": {}}}}])).is_err());
    assert_eq!(feed.tables(), before);
}

#[test]
fn old_servers_send_whole_rows() {
    let feed = feed();
    let whole = json!({"new": {"name": "a", "up": ["set", []], "ports": 1, "ids": ["map", []]}});
    feed.begin(Dialect::Old, json!({"T": {ROW.to_string(): whole}}).to_string().as_bytes(), 1).unwrap();
    let change = |new| serde_json::from_value::<OldUpdates>(json!({"T": {ROW.to_string(): new}})).unwrap().into();
    feed.update(None, change(json!({"old": {"name": "a"}, "new": {"name": "b", "ports": 1}}))).unwrap();
    assert_eq!(row(&feed, ROW).unwrap()["name"], "b".into());
    feed.update(None, change(json!({"old": {"name": "b"}}))).unwrap();
    assert_eq!(row(&feed, ROW), None);
}
