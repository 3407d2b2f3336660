// A decode step is some hundred operators of a few microseconds each; asking for them one by one takes longer than computing them.
// Steps of one form (as many tokens, tables as wide, over the same memory) are recorded at their second occurrence, when everything
// is allocated and compiled, and replayed from then on. So are the passes of an MTP module, whose form names the hidden states they read.
using Fathom.Compute;

namespace Fathom.Model;

/// <summary>Recorded decode steps of one pass object, by form.</summary>
internal sealed class StepRecordings(Device device)
{
    private const int Capacity = 64;
    private readonly Dictionary<Form, Entry> entries = [];
    private long clock;

    /// <summary>Runs the step of a pass: by replaying it, where its form has come before.</summary>
    /// <param name="model">The model.</param>
    /// <param name="pass">Complete, and repeatable.</param>
    /// <param name="cache">Of the model.</param>
    /// <param name="hidden">What a pass of the MTP module goes on from; empty for a step of the model.</param>
    /// <returns>The step's logits.</returns>
    public Tensor Run(DeepSeekModel model, InferencePass pass, LatentCache cache, Tensor hidden = default)
    {
        var form = new Form(
            model, cache, pass.DecodeCount, (int)pass.DecodeBlocks.Columns, (int)pass.OutputRows.Elements, pass.Tables, model.Rotary.Cos.Address,
            hidden.IsEmpty ? 0 : hidden.Address, hidden.IsEmpty ? 0 : hidden.Rows);
        if (!entries.TryGetValue(form, out Entry? entry))
        {
            if (entries.Count == Capacity) Forget();
            entries[form] = new Entry { LastUse = ++clock };
            return Compute();
        }

        entry.LastUse = ++clock;
        entry.Work ??= device.Record(() => (entry.Logits, entry.Hidden) = (Compute(), pass.Hidden));
        entry.Work.Replay();
        pass.Hidden = entry.Hidden;
        return entry.Logits;

        Tensor Compute() => hidden.IsEmpty ? model.Compute(pass, cache) : model.ComputeMtp(pass, hidden, cache);
    }

    private void Forget()
    {
        (Form oldest, Entry entry) = entries.MinBy(e => e.Value.LastUse);
        entry.Work?.Dispose();
        entries.Remove(oldest);
    }

    /// <summary>What decides which memory a step uses and in which shapes.</summary>
    private readonly record struct Form(DeepSeekModel Model, LatentCache Cache, int Tokens, int Columns, int Outputs, nint Tables, nint RotaryTable, nint Hidden, long HiddenRows);

    private sealed class Entry
    {
        public IRecordedWork? Work { get; set; }

        public Tensor Logits { get; set; }

        public Tensor Hidden { get; set; }

        public long LastUse { get; set; }
    }
}
