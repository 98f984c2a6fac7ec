//! Rows as they are, from one store into a new one: of all tables and columns that both have, so that a store of an older
//! version becomes one of ours.

use rusqlite::types::ToSqlOutput;
use rusqlite::{Connection, params};

use super::super::StoreError;
use super::super::row::sqlite_int;
use super::RecordAt;
use super::target::Errors;
use crate::flow::Mid;

/// Copies all tables but some.
pub(super) fn copy_all(
    from: &Connection,
    to: &Connection,
    without: &[&str],
    errors: &Errors<'_>,
) -> Result<(), StoreError> {
    for table in tables(to).map_err(errors.to())? {
        if !without.contains(&&*table) {
            copy(from, to, &table, errors, |_| Ok(None))?;
        }
    }
    Ok(())
}

/// Copies the table of flows; `place` tells of each where its record is in the copy.
pub(super) fn copy_flows(
    from: &Connection,
    to: &Connection,
    errors: &Errors<'_>,
    mut place: impl FnMut(Mid) -> Result<Option<RecordAt>, StoreError>,
) -> Result<(), StoreError> {
    copy(from, to, "flow", errors, |mid| place(mid).map(Some))
}

/// Copies a table, row by row in the order of its tree. Where `place` gives something, it says where the record of the flow
/// is.
fn copy(
    from: &Connection,
    to: &Connection,
    table: &str,
    errors: &Errors<'_>,
    mut place: impl FnMut(Mid) -> Result<Option<Option<RecordAt>>, StoreError>,
) -> Result<(), StoreError> {
    let theirs = columns(from, table).map_err(errors.from())?;
    let mut ours = columns(to, table).map_err(errors.to())?;
    ours.retain(|column| theirs.contains(column));
    if ours.is_empty() {
        return Ok(());
    }
    // Names of columns of ours: no file says what is in this text.
    let list = ours.join(", ");
    let values = vec!["?"; ours.len()].join(", ");
    let mut insert =
        to.prepare(&format!("INSERT INTO {table} ({list}) VALUES ({values})")).map_err(errors.to())?;
    let mut select = from.prepare(&format!("SELECT {list} FROM {table}")).map_err(errors.from())?;
    let at = |name| ours.iter().position(|column| column == name);
    let record = [at("record_segment"), at("record_offset"), at("record_len")];
    let mut rows = select.query([]).map_err(errors.from())?;
    while let Some(row) = rows.next().map_err(errors.from())? {
        for i in 0..ours.len() {
            let value = row.get_ref(i).map_err(errors.from())?;
            insert.raw_bind_parameter(i + 1, ToSqlOutput::Borrowed(value)).map_err(errors.to())?;
        }
        if let Some(mid) = at("mid").and_then(|at| row.get::<_, i64>(at).ok())
            && let Some(record_at) = place(Mid(mid.cast_unsigned()))?
        {
            let numbers = record_at.map(|at| [at.segment.into(), at.offset, at.stored_len]);
            for (i, column) in record.into_iter().enumerate() {
                let value = numbers.map(|numbers| sqlite_int(numbers[i]));
                let Some(column) = column else { continue };
                insert.raw_bind_parameter(column + 1, value).map_err(errors.to())?;
            }
        }
        insert.raw_execute().map_err(errors.to())?;
    }
    Ok(())
}

/// The tables of a new store, in the order in which they were made.
fn tables(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let sql =
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY rowid";
    conn.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
}

/// The columns of a table; none if there is no such table.
fn columns(conn: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    conn.prepare("SELECT name FROM pragma_table_info(?1)")?
        .query_map(params![table], |row| row.get(0))?
        .collect()
}
