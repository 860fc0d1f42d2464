//! The stores that the registry is measured against, each set so that a change is durable when it is answered.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cortex_mcp::registry::RegistryEntry;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use redb::TableDefinition;
use rusqlite::Connection;

use crate::Peer;

/// SQLite in one file, a connection for each writer.
pub(crate) struct Sqlite(PathBuf);

impl Sqlite {
    pub(crate) fn new(folder: &Path) -> Self {
        let sqlite = Self(folder.join("registry.sqlite"));
        let schema = "CREATE TABLE servers (name TEXT PRIMARY KEY, entry TEXT NOT NULL) WITHOUT ROWID";
        sqlite.session().execute_batch(schema).expect("a table");
        sqlite
    }
}

impl Peer for Sqlite {
    type Session<'a> = Connection;

    fn session(&self) -> Connection {
        let connection = Connection::open(&self.0).expect("a database");
        connection.busy_timeout(Duration::from_secs(60)).expect("a timeout");
        connection.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;").expect("durability");
        connection
    }

    fn put(&self, connection: &mut Connection, entry: RegistryEntry) {
        let statement = "INSERT OR REPLACE INTO servers (name, entry) VALUES (?1, ?2)";
        let mut statement = connection.prepare_cached(statement).expect("a statement");
        statement.execute((&entry.name, entry.json())).expect("a durable change");
    }
}

/// redb in one file. Its writers wait for each other.
pub(crate) struct Redb(redb::Database);

const SERVERS: TableDefinition<'_, &str, &str> = TableDefinition::new("servers");

impl Redb {
    pub(crate) fn new(folder: &Path) -> Self {
        Self(redb::Database::create(folder.join("registry.redb")).expect("a database"))
    }
}

impl Peer for Redb {
    type Session<'a> = ();

    fn session(&self) {}

    fn put(&self, (): &mut (), entry: RegistryEntry) {
        let mut transaction = self.0.begin_write().expect("a transaction");
        transaction.set_durability(redb::Durability::Immediate).expect("durability");
        {
            let mut table = transaction.open_table(SERVERS).expect("a table");
            table.insert(entry.name.as_str(), entry.json()).expect("a change");
        }
        transaction.commit().expect("a durable change");
    }
}

/// fjall in one folder. Each writer persists what it wrote.
pub(crate) struct Fjall {
    database: Database,
    servers: Keyspace,
}

impl Fjall {
    pub(crate) fn new(folder: &Path) -> Self {
        let database = Database::builder(folder).open().expect("a database");
        let servers = database.keyspace("servers", KeyspaceCreateOptions::default).expect("a keyspace");
        Self { database, servers }
    }
}

impl Peer for Fjall {
    type Session<'a> = ();

    fn session(&self) {}

    fn put(&self, (): &mut (), entry: RegistryEntry) {
        self.servers.insert(entry.name.as_str(), entry.json()).expect("a change");
        self.database.persist(PersistMode::SyncAll).expect("a durable change");
    }
}
