// The live view: one panel that is redrawn a few times a second from the training thread, so there is nothing to synchronise but
// the note about stopping, which a signal sets.
using System.Diagnostics;
using Fathom.Training;
using Spectre.Console;
using Spectre.Console.Rendering;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Terminal;

/// <summary>Shows a run as a panel that changes.</summary>
internal sealed class LiveRunView(CancellationToken stop) : IRunView
{
    private const int TwoColumnWidth = 64;
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(250);
    private readonly RunProgress progress = new();
    private readonly List<string> notes = [];
    private LiveDisplayContext? live;
    private long lastDrawn;

    /// <summary>Whether the terminal can be redrawn and is wide enough.</summary>
    public static bool Fits =>
        !Console.IsOutputRedirected && AnsiConsole.Profile.Capabilities.Ansi && AnsiConsole.Profile.Width >= 30;

    /// <inheritdoc/>
    public void Preparing(PreparationProgress preparation) => AnsiConsole.WriteLine(RunAnnouncements.Preparing(preparation));

    /// <inheritdoc/>
    public void Starting(TrainingRun run, string? restoredFrom)
    {
        progress.Start(run);
        foreach (string line in RunAnnouncements.Starting(run, restoredFrom)) AnsiConsole.WriteLine(line);
    }

    /// <inheritdoc/>
    public bool Follow(Func<bool> train)
    {
        bool finished = false;
        AnsiConsole.Live(Draw()).Start(context =>
        {
            live = context;
            finished = train();
            Update();
            live = null;
        });
        return finished;
    }

    /// <inheritdoc/>
    public void Stepped(StepReport report)
    {
        progress.Add(report);
        if (Stopwatch.GetElapsedTime(lastDrawn) >= Interval || stop.IsCancellationRequested) Update();
    }

    /// <inheritdoc/>
    public void Validated(long step, ValidationReport report)
    {
        progress.Add(report);
        Update();
    }

    /// <inheritdoc/>
    public void Saved(long step, string folder) => Note(Invariant($"saved step {step}"));

    /// <inheritdoc/>
    public void Warning(string message)
    {
        if (live is null) Console.Error.WriteLine("fathom: warning: " + message);
        else Note("warning: " + message);
    }

    private void Note(string text)
    {
        notes.Add(text);
        if (notes.Count > 2) notes.RemoveAt(0);
        Update();
    }

    private void Update()
    {
        if (live is null) return;
        lastDrawn = Stopwatch.GetTimestamp();
        live.UpdateTarget(Draw());
        live.Refresh();
    }

    private Panel Draw()
    {
        int width = Math.Min(AnsiConsole.Profile.Width, 96) - 4;
        (string Name, string Value)[] cells =
        [
            ("step", Invariant($"{progress.Step:N0}")),
            ("tokens", Short(progress.Tokens)),
            ("loss", Number(progress.Loss, "F3")),
            ("held-out", progress.Validation is { } v ? RunAnnouncements.Held(v) : "-"),
            ("MTP loss", Number(progress.MtpLoss, "F3")),
            ("gradient norm", Number(progress.GradientNorm, "F2")),
            ("tokens/s", Short(progress.TokensPerSecond)),
            ("share of peak", progress.PeakShare > 0 ? Percent(progress.PeakShare) : "-"),
            ("learning rate", Invariant($"{progress.LearningRate:G3}")),
            ("load imbalance", Number(progress.LoadImbalance, "F2")),
        ];
        bool wide = width >= TwoColumnWidth;
        const int NameWidth = 15;
        int valueWidth = Math.Max(8, (wide ? width / 2 : width) - NameWidth - 1);
        var grid = new Grid();
        for (int pair = 0; pair < (wide ? 2 : 1); pair++)
        {
            grid.AddColumn(new GridColumn { NoWrap = true, Width = NameWidth, Padding = new Padding(0) });
            grid.AddColumn(new GridColumn { NoWrap = true, Width = valueWidth, Padding = new Padding(0, 0, 1, 0) });
        }

        for (int i = 0; i < cells.Length; i += wide ? 2 : 1)
        {
            IRenderable[] row = [Name(cells[i].Name), Value(cells[i].Value)];
            if (wide) row = [.. row, Name(cells[i + 1].Name), Value(cells[i + 1].Value)];
            grid.AddRow(row);
        }

        var rows = new List<IRenderable> { grid };
        if (progress.Losses.Count > 1) rows.Add(new Markup($"[aqua]{Sparkline.Draw(progress.Losses, width)}[/]"));
        rows.Add(Bar(width));
        string? note = stop.IsCancellationRequested ? RunAnnouncements.Stopping : notes.LastOrDefault();
        if (note is not null) rows.Add(new Markup($"[grey]{Markup.Escape(note)}[/]"));
        return new Panel(new Rows(rows)) { Header = new PanelHeader(" training "), Border = BoxBorder.Rounded, Width = width + 4 };

        static Markup Name(string name) => new($"[grey]{name}[/]");
        static Markup Value(string value) => new($"[bold]{Markup.Escape(value)}[/]");
    }

    private Markup Bar(int width)
    {
        string left = $" {Percent(progress.Done)}  {Duration(progress.SecondsLeft)} left";
        int length = Math.Max(4, width - left.Length), filled = (int)Math.Round(progress.Done * length);
        return new Markup($"[green]{new string('━', filled)}[/][grey]{new string('─', length - filled)}[/]{left}");
    }

    private static string Number(double value, string format) =>
        double.IsFinite(value) ? value.ToString(format, System.Globalization.CultureInfo.InvariantCulture) : "-";
}
