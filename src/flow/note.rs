//! What people write beside a flow.

/// What was written beside a flow: it is kept beside the record, which stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Note {
    /// The sign that it is marked with; never empty.
    pub marker: Option<String>,
    /// Free text; never empty.
    pub comment: Option<String>,
    /// Names, in the order of their bytes.
    pub tags: Vec<String>,
}

impl Note {
    /// Whether nothing is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.marker.is_none() && self.comment.is_none() && self.tags.is_empty()
    }
}
