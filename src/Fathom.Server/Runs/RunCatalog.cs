// The runs below some directories. A client names a run by a number that is made from its path here; no path ever comes from a client, so
// there is none to play tricks with.
using System.Security.Cryptography;
using System.Text;

namespace Fathom.Server.Runs;

/// <summary>Finds runs and keeps what has been read of them. Safe for many threads.</summary>
/// <param name="roots">Directories that are runs, or hold runs or folders of runs. Those that are not there hold none, yet.</param>
/// <param name="time">The clock.</param>
internal sealed class RunCatalog(IEnumerable<string> roots, TimeProvider time)
{
    /// <summary>Most runs that are shown, the newest.</summary>
    public const int MostRuns = 200;

    private const int Depth = 2, MostFolders = 20_000;
    private static readonly TimeSpan Fresh = TimeSpan.FromSeconds(1);
    private static readonly EnumerationOptions Folders = new() { IgnoreInaccessible = true, AttributesToSkip = FileAttributes.Hidden };
    private readonly string[] roots = [.. roots.Select(r => Path.TrimEndingDirectorySeparator(Path.GetFullPath(r))).Distinct()];
    private readonly Lock gate = new();
    private readonly Dictionary<string, Run> known = [];
    private IReadOnlyList<Run> runs = [];
    private long? looked;

    /// <summary>The runs, those written last first. Directories are looked through at most once a second.</summary>
    public IReadOnlyList<Run> Runs
    {
        get
        {
            lock (gate)
            {
                if (looked is null || time.GetElapsedTime(looked.Value) >= Fresh)
                {
                    runs = Look();
                    looked = time.GetTimestamp();
                }

                return runs;
            }
        }
    }

    /// <summary>The run with an id; null where there is none.</summary>
    public Run? Find(string? id) => id is null ? null : Runs.FirstOrDefault(run => run.Id == id);

    private Run[] Look()
    {
        List<(string Path, string Name, DateTime Written)> found = [];
        int folders = 0;
        foreach (string root in roots)
        {
            string prefix = roots.Length > 1 ? Path.GetFileName(root) + "/" : "";
            if (WrittenOf(root) is { } written) found.Add((root, Path.GetFileName(root), written));
            else LookInto(root, prefix, Depth);
        }

        // A run that two roots reach is one.
        var newest = found.DistinctBy(f => f.Path).OrderByDescending(f => f.Written).ThenBy(f => f.Path, StringComparer.Ordinal).Take(MostRuns).ToList();
        foreach (string gone in known.Keys.Except(newest.Select(f => f.Path)).ToList()) known.Remove(gone);
        return [.. newest.Select(f => known.TryGetValue(f.Path, out Run? run) ? run : known[f.Path] = new Run(f.Path, f.Name, time))];

        void LookInto(string folder, string prefix, int depth)
        {
            try
            {
                foreach (string child in Directory.EnumerateDirectories(folder, "*", Folders))
                {
                    if (++folders > MostFolders) return;
                    string name = prefix + Path.GetFileName(child);
                    if (WrittenOf(child) is { } written) found.Add((child, name, written));
                    else if (depth > 1) LookInto(child, name + "/", depth - 1);
                }
            }
            catch (Exception error) when (error is IOException or UnauthorizedAccessException)
            {
                // Gone meanwhile, or not there yet: it holds no runs.
            }
        }
    }

    /// <summary>When a run was written last; null for what is not a run.</summary>
    private static DateTime? WrittenOf(string folder)
    {
        DateTime metrics = File.GetLastWriteTimeUtc(Path.Combine(folder, Run.MetricsName)), settings = File.GetLastWriteTimeUtc(Path.Combine(folder, Run.SettingsName));
        DateTime written = metrics > settings ? metrics : settings;
        return written.Year > 1601 ? written : null; // 1601: there is no such file
    }

    /// <summary>One run.</summary>
    public sealed class Run
    {
        /// <summary>The metrics in a run directory (docs/run-directory.md).</summary>
        public const string MetricsName = "metrics.jsonl";

        /// <summary>The settings in a run directory.</summary>
        public const string SettingsName = "run.json";

        private const double QuietSeconds = 120, QuietSteps = 20, PreparingSeconds = 900;
        private readonly string folder;
        private readonly TimeProvider time;
        private readonly Lock gate = new();
        private RunSettings? settings;
        private DateTime settingsWritten;

        /// <summary>A run in a folder.</summary>
        public Run(string folder, string name, TimeProvider time)
        {
            (this.folder, Name, this.time) = (folder, name, time);
            Id = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(folder)))[..12];
            Reader = new RunReader(Path.Combine(folder, MetricsName));
        }

        /// <summary>What clients call it.</summary>
        public string Id { get; }

        /// <summary>Its place below the directory it was found in.</summary>
        public string Name { get; }

        /// <summary>Its metrics.</summary>
        public RunReader Reader { get; }

        /// <summary>Its settings; null where run.json is missing or damaged.</summary>
        public RunSettings? Settings
        {
            get
            {
                string path = Path.Combine(folder, SettingsName);
                DateTime now = File.GetLastWriteTimeUtc(path);
                lock (gate)
                {
                    if (now != settingsWritten) (settings, settingsWritten) = (RunSettings.Read(path), now);
                    return settings;
                }
            }
        }

        /// <summary>
        /// finished, stopped, diverged, failed: what it said itself. Else finished: it has reached its end. preparing: it was begun and has no
        /// step yet. running: it was written to in the last two minutes, or twenty steps, where those take longer. stale: neither, so it was
        /// killed, or hangs.
        /// </summary>
        public string Activity(RunState state, RunSettings? settings)
        {
            if (state.End is { } end) return end;
            DateTime now = time.GetUtcNow().UtcDateTime;
            if (state.Step == 0 && settings is { } begun && begun.Progress(state) is not 1)
                return (now - settingsWritten).TotalSeconds < PreparingSeconds ? "preparing" : "stale";
            if (settings?.Progress(state) >= 1) return "finished";
            double step = state.Step > 0 ? state.Seconds / state.Step : 0;
            return state.Written is { } written && (now - written.UtcDateTime).TotalSeconds < Math.Max(QuietSeconds, QuietSteps * step) ? "running" : "stale";
        }
    }
}
