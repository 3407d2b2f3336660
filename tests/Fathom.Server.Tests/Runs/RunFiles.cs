// Metrics as a trainer writes them, for readers to be tested on.
using System.Globalization;
using System.Text;

namespace Fathom.Server.Tests;

/// <summary>Writes run directories.</summary>
internal static class RunFiles
{
    /// <summary>A line of a step: the loss falls with the step, and every step takes half a second.</summary>
    public static string Step(long step, double? loss = null) => string.Create(CultureInfo.InvariantCulture,
        $$"""{"step":{{step}},"tokens":{{step * 100}},"loss":{{loss ?? 10.0 / step}},"mtp_loss":[{{20.0 / step}}],"grad_norm":1.5,"lr":0.001,"seconds":0.5,"tokens_per_second":200,"load_imbalance":[1.25,1.5,1],"memory_bytes":1000000}""") + "\n";

    /// <summary>A line of a validation.</summary>
    public static string Validation(long step, double loss) => string.Create(CultureInfo.InvariantCulture, $$"""{"step":{{step}},"val_loss":{{loss}},"val_tokens":64}""") + "\n";

    /// <summary>A line of loads: of two layers with four experts.</summary>
    public static string Loads(long step) => $$"""{"step":{{step}},"expert_layers":[1,3],"expert_load":[[{{step}},2,3,4],[5,6,7,{{step}}]],"routing_bias":[[-0.5,0.25],[0,0.125]]}""" + "\n";

    /// <summary>The last line.</summary>
    public static string End(long step, string end, string? reason = null) => $$"""{"step":{{step}},"end":"{{end}}"{{(reason is null ? "" : $",\"reason\":\"{reason}\"")}}}""" + "\n";

    /// <summary>A run directory.</summary>
    public static string Make(string root, string name, string metrics, string settings = """{"model":"tiny","recipe":"bf16","seed":7,"steps":100}""")
    {
        string folder = Path.Combine(root, name);
        Directory.CreateDirectory(folder);
        File.WriteAllText(Path.Combine(folder, "run.json"), settings);
        File.WriteAllText(Path.Combine(folder, "metrics.jsonl"), metrics);
        return folder;
    }

    /// <summary>Steps from one to another.</summary>
    public static string Steps(long first, long last)
    {
        var text = new StringBuilder();
        for (long step = first; step <= last; step++) text.Append(Step(step));
        return text.ToString();
    }
}
