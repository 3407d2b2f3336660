// Keys and usage in one SQLite file, shared with the `serve keys` command while the server runs. Of a key the file holds the SHA-256: keys
// are 256 random bits, so nothing slower is needed. The row is found by the first eight bytes of the hash, which an attacker cannot steer,
// and the whole hash is compared in constant time; an unknown key takes the same way.
//
// Usage is a row a request under a primary key, in the same transaction as the balance. The writer commits all records that wait at once
// (synchronous=FULL costs a disk flush, not one a request) and whoever recorded waits for that commit.
using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using System.Threading.Channels;
using Fathom.Numerics;
using Microsoft.Data.Sqlite;

namespace Fathom.Server.Accounts;

/// <summary>Keys, balances and usage. Safe for many threads, and for several processes.</summary>
public sealed class KeyStore : IDisposable
{
    private const string KeyPrefix = "sk-";
    private const int MostAtOnce = 512;

    private readonly SqliteConnection reading;
    private readonly SqliteConnection writing;
    private readonly Lock readGate = new(), writeGate = new();
    private readonly Channel<(UsageRecord Record, long Cost, TaskCompletionSource Written)> queue = Channel.CreateUnbounded<(UsageRecord, long, TaskCompletionSource)>();
    private readonly Task writer;

    /// <summary>Opens a file, or makes one that its owner alone can read.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="FathomException">It cannot be opened, or is something else.</exception>
    public KeyStore(string path)
    {
        try
        {
            if (!File.Exists(path) && !OperatingSystem.IsWindows())
                File.Open(path, new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write, UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite }).Dispose();
            writing = Open(path);
            Run(writing, Schema);
            reading = Open(path);
        }
        catch (Exception error) when (error is SqliteException or IOException or UnauthorizedAccessException)
        {
            throw new FathomException($"cannot open the key file {path}: {error.Message}", error);
        }

        writer = Task.Run(WriteAllAsync);
    }

    private const string Schema = """
        CREATE TABLE IF NOT EXISTS keys (
            id TEXT PRIMARY KEY, lookup INTEGER NOT NULL, hash BLOB NOT NULL, name TEXT NOT NULL,
            requests_per_minute INTEGER, tokens_per_minute INTEGER, balance_nano INTEGER, created INTEGER NOT NULL, revoked INTEGER);
        CREATE INDEX IF NOT EXISTS keys_lookup ON keys (lookup);
        CREATE TABLE IF NOT EXISTS usage (
            request TEXT PRIMARY KEY, key TEXT NOT NULL, model TEXT NOT NULL, time INTEGER NOT NULL,
            hit INTEGER NOT NULL, miss INTEGER NOT NULL, output INTEGER NOT NULL, cost_nano INTEGER NOT NULL) WITHOUT ROWID;
        CREATE INDEX IF NOT EXISTS usage_key ON usage (key, model);
        """;

    private const string Columns = "id, name, requests_per_minute, tokens_per_minute, balance_nano, created, revoked, hash";

    /// <summary>Whether keys are asked for: one was made, be it revoked by now.</summary>
    public bool HasKeys
    {
        get
        {
            lock (readGate)
            {
                using SqliteCommand command = Command(reading, "SELECT EXISTS (SELECT 1 FROM keys)");
                return (long)command.ExecuteScalar()! != 0;
            }
        }
    }

    /// <summary>All keys, oldest first.</summary>
    public IReadOnlyList<Account> Keys
    {
        get
        {
            lock (readGate)
            {
                using SqliteCommand command = Command(reading, $"SELECT {Columns} FROM keys ORDER BY created, id");
                using SqliteDataReader rows = command.ExecuteReader();
                List<Account> accounts = [];
                while (rows.Read()) accounts.Add(Read(rows));
                return accounts;
            }
        }
    }

    /// <summary>What was used, by key and model.</summary>
    public IReadOnlyList<UsageTotal> Usage
    {
        get
        {
            lock (readGate)
            {
                using SqliteCommand command = Command(reading, "SELECT key, model, COUNT(*), SUM(hit), SUM(miss), SUM(output), SUM(cost_nano) FROM usage GROUP BY key, model ORDER BY key, model");
                using SqliteDataReader rows = command.ExecuteReader();
                List<UsageTotal> totals = [];
                while (rows.Read()) totals.Add(new UsageTotal(rows.GetString(0), rows.GetString(1), rows.GetInt64(2), rows.GetInt64(3), rows.GetInt64(4), rows.GetInt64(5), rows.GetInt64(6)));
                return totals;
            }
        }
    }

    /// <summary>Makes a key.</summary>
    /// <param name="name">Its owner.</param>
    /// <param name="requestsPerMinute">Most requests a minute, or null.</param>
    /// <param name="tokensPerMinute">Most tokens a minute, or null.</param>
    /// <param name="balance">What may be spent, or null for anything.</param>
    /// <returns>The key, which is not to be had again, and its record.</returns>
    /// <exception cref="FathomException">A value is out of range.</exception>
    public (string Key, Account Account) Add(string name, int? requestsPerMinute = null, int? tokensPerMinute = null, decimal? balance = null)
    {
        if (string.IsNullOrWhiteSpace(name) || name.Length > 200) throw new FathomException("a key needs a name of at most 200 characters");
        if (requestsPerMinute is <= 0 || tokensPerMinute is <= 0) throw new FathomException("a rate limit must be above zero; leave it away for none");
        string id = Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(6));
        string key = $"{KeyPrefix}{id}{Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(32))}";
        byte[] hash = Hash(key);
        var account = new Account(id, name.Trim(), requestsPerMinute, tokensPerMinute, Nano(balance), DateTimeOffset.FromUnixTimeSeconds(DateTimeOffset.UtcNow.ToUnixTimeSeconds()), null);
        Write("INSERT INTO keys (id, lookup, hash, name, requests_per_minute, tokens_per_minute, balance_nano, created) VALUES ($0, $1, $2, $3, $4, $5, $6, $7)",
            id, Lookup(hash), hash, account.Name, requestsPerMinute, tokensPerMinute, account.BalanceNano, account.Created.ToUnixTimeSeconds());
        return (key, account);
    }

    /// <summary>Takes a key out of use; what it used stays written down.</summary>
    /// <param name="id">Its id.</param>
    /// <returns>Whether there was such a key in use.</returns>
    public bool Revoke(string id) => Write("UPDATE keys SET revoked = $1 WHERE id = $0 AND revoked IS NULL", id, DateTimeOffset.UtcNow.ToUnixTimeSeconds()) > 0;

    /// <summary>Adds to a key's balance; one without a balance gets one.</summary>
    /// <param name="id">Its id.</param>
    /// <param name="amount">How much; negative to take away.</param>
    /// <returns>Whether there is such a key.</returns>
    public bool AddBalance(string id, decimal amount) => Write("UPDATE keys SET balance_nano = COALESCE(balance_nano, 0) + $1 WHERE id = $0", id, Nano(amount)) > 0;

    /// <summary>The account of a key, or null where it is unknown or revoked.</summary>
    /// <param name="key">As the client sent it.</param>
    public Account? Find(string key)
    {
        byte[] hash = Hash(key);
        lock (readGate)
        {
            using SqliteCommand command = Command(reading, $"SELECT {Columns} FROM keys WHERE lookup = $0", Lookup(hash));
            using SqliteDataReader rows = command.ExecuteReader();
            Account? found = null;
            while (rows.Read())
            {
                if (CryptographicOperations.FixedTimeEquals((byte[])rows.GetValue(7), hash)) found = Read(rows);
            }

            return found is { Revoked: null } ? found : null;
        }
    }

    /// <summary>A key's record, or null.</summary>
    public Account? Get(string id) => Keys.FirstOrDefault(a => a.Id == id);

    /// <summary>Writes down what a request used and takes its price from the balance.</summary>
    /// <returns>Done when it is on disk.</returns>
    internal Task RecordAsync(UsageRecord record, PriceList prices)
    {
        var written = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        long cost = prices.CostNano(record.Usage.HitTokens, record.Usage.MissTokens, record.Usage.OutputTokens);
        return queue.Writer.TryWrite((record, cost, written)) ? written.Task : throw new ObjectDisposedException(nameof(KeyStore));
    }

    /// <summary>Ids of the requests that are written down.</summary>
    internal IReadOnlyDictionary<string, (long Hit, long Miss, long Output)> Requests()
    {
        lock (readGate)
        {
            using SqliteCommand command = Command(reading, "SELECT request, hit, miss, output FROM usage");
            using SqliteDataReader rows = command.ExecuteReader();
            Dictionary<string, (long, long, long)> all = [];
            while (rows.Read()) all.Add(rows.GetString(0), (rows.GetInt64(1), rows.GetInt64(2), rows.GetInt64(3)));
            return all;
        }
    }

    /// <summary>Writes what waits, and closes the file.</summary>
    public void Dispose()
    {
        queue.Writer.TryComplete();
        writer.Wait();
        reading.Dispose();
        writing.Dispose();
    }

    private async Task WriteAllAsync()
    {
        while (await queue.Reader.WaitToReadAsync().ConfigureAwait(false))
        {
            List<(UsageRecord Record, long Cost, TaskCompletionSource Written)> batch = [];
            while (batch.Count < MostAtOnce && queue.Reader.TryRead(out (UsageRecord, long, TaskCompletionSource) next)) batch.Add(next);
            try
            {
                Commit(batch);
                foreach ((_, _, TaskCompletionSource written) in batch) written.SetResult();
            }
            catch (SqliteException error)
            {
                foreach ((_, _, TaskCompletionSource written) in batch) written.SetException(new IOException($"usage could not be written: {error.Message}", error));
            }
        }
    }

    private void Commit(List<(UsageRecord Record, long Cost, TaskCompletionSource Written)> batch)
    {
        lock (writeGate)
        {
            using SqliteTransaction transaction = writing.BeginTransaction();
            foreach ((UsageRecord record, long cost, _) in batch)
            {
                using SqliteCommand insert = Command(
                    writing, "INSERT OR IGNORE INTO usage (request, key, model, time, hit, miss, output, cost_nano) VALUES ($0, $1, $2, $3, $4, $5, $6, $7)",
                    record.RequestId, record.KeyId, record.Model, record.Time.ToUnixTimeMilliseconds(), record.Usage.HitTokens, record.Usage.MissTokens, record.Usage.OutputTokens, cost);
                insert.Transaction = transaction;
                if (insert.ExecuteNonQuery() == 0) continue;
                using SqliteCommand pay = Command(writing, "UPDATE keys SET balance_nano = balance_nano - $1 WHERE id = $0", record.KeyId, cost);
                pay.Transaction = transaction;
                pay.ExecuteNonQuery();
            }

            transaction.Commit();
        }
    }

    private int Write(string sql, params object?[] values)
    {
        lock (writeGate)
        {
            using SqliteCommand command = Command(writing, sql, values);
            return command.ExecuteNonQuery();
        }
    }

    private static SqliteConnection Open(string path)
    {
        var connection = new SqliteConnection(new SqliteConnectionStringBuilder { DataSource = path, Pooling = false, DefaultTimeout = 10 }.ToString());
        connection.Open();
        Run(connection, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;");
        return connection;
    }

    private static void Run(SqliteConnection connection, string sql)
    {
        using SqliteCommand command = Command(connection, sql);
        command.ExecuteNonQuery();
    }

    private static SqliteCommand Command(SqliteConnection connection, string sql, params object?[] values)
    {
        SqliteCommand command = connection.CreateCommand();
        command.CommandText = sql;
        for (int i = 0; i < values.Length; i++) command.Parameters.AddWithValue($"${i}", values[i] ?? DBNull.Value);
        return command;
    }

    private static Account Read(SqliteDataReader row) => new(
        row.GetString(0), row.GetString(1), row.IsDBNull(2) ? null : row.GetInt32(2), row.IsDBNull(3) ? null : row.GetInt32(3),
        row.IsDBNull(4) ? null : row.GetInt64(4), DateTimeOffset.FromUnixTimeSeconds(row.GetInt64(5)), row.IsDBNull(6) ? null : DateTimeOffset.FromUnixTimeSeconds(row.GetInt64(6)));

    private static byte[] Hash(string key) => SHA256.HashData(Encoding.UTF8.GetBytes(key));

    private static long Lookup(byte[] hash) => BinaryPrimitives.ReadInt64LittleEndian(hash);

    private static long? Nano(decimal? amount) => amount switch
    {
        null => null,
        < -1_000_000_000 or > 1_000_000_000 => throw new FathomException("a balance is at most 1,000,000,000"),
        { } value => (long)(value * 1_000_000_000m),
    };
}
