/// The answer to a record that was inserted.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Inserted {
    /// The record was new, and is stored.
    New,
    /// The same notification was stored before, with the same bytes or with a body that is pruned by now.
    Duplicate,
    /// The same notification was stored before. Its bytes differ, but only in
    /// [ignored fields](tower_inqud::Notification::ignored_fields).
    DuplicateDiffers,
    /// The record is stored for [review](tower_inqud::Verdict::Review), and not processed.
    Review,
}
