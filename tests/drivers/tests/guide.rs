//! The guide has the handlers that are compiled and tested here.

const GUIDE: &str = include_str!("../../../crates/inqud-inbox/docs/drivers.md");

#[test]
fn guide_has_the_handlers() {
    for source in [
        include_str!("../src/deadpool_postgres.rs"),
        include_str!("../src/diesel_async.rs"),
        include_str!("../src/sea_orm.rs"),
        include_str!("../src/sqlx.rs"),
        include_str!("../src/tokio_postgres.rs"),
    ] {
        let (_, handler) = source.split_once("// In the guide from here.\n\n").unwrap();
        assert!(GUIDE.contains(&format!("```ignore\n{handler}```")), "outdated:\n{handler}");
    }
}
