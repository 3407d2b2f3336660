// Forward and backward pass of a micro-batch are some thousand operators, and in a small model each of them takes a GPU less time than
// the processor needs to ask for it. Micro-batches have one shape, so the work of a pass is recorded when it comes for the third time
// (everything is then allocated and compiled, and what is made once a step was made in the step before too), and replayed from then on.
// The trap is what the passes leave on the host: which gradients of the step are written, and how many operands were looked at for
// values that are not finite. Tensors that activations hold are the same ones after a replay, since a pass takes its memory in order.
using Fathom.Compute;

namespace Fathom.Model;

/// <summary>The passes of one micro-batch object through a model: computed, or replayed where the device records.</summary>
public sealed class TrainingPasses
{
    private const int Capacity = 32;
    private readonly DeepSeekModel model;
    private readonly MicroBatch micro;
    private readonly IReadOnlyList<Parameter> parameters;
    private readonly Action? beforeRecording;
    private readonly Dictionary<Form, Entry> entries = [];

    /// <summary>Passes of a micro-batch.</summary>
    /// <param name="model">The model.</param>
    /// <param name="micro">A micro-batch for training.</param>
    /// <param name="parameters">The model's parameters, whose gradients are written.</param>
    /// <param name="beforeRecording">Waits for other threads that ask something of the device: it would be recorded too.</param>
    public TrainingPasses(DeepSeekModel model, MicroBatch micro, IReadOnlyList<Parameter> parameters, Action? beforeRecording = null) =>
        (this.model, this.micro, this.parameters, this.beforeRecording) = (model, micro, parameters, beforeRecording);

    /// <summary>Passes that were replayed so far.</summary>
    public long Replays { get; private set; }

    /// <summary>Forward and backward pass over the tokens that the micro-batch holds, as <see cref="DeepSeekModel.ForwardBackward"/>.</summary>
    /// <param name="weights">What the terms of the loss count.</param>
    public void ForwardBackward(in LossWeights weights)
    {
        Entry? entry = model.Device.CanRecord ? EntryOf(new Form(micro.Pass, weights, micro.ResultsAddress, model.Rotary.Cos.Address)) : null;
        if (entry is null || entry.Occurrences < 2)
        {
            if (entry is not null) entry.Occurrences++;
            model.ForwardBackward(micro, weights);
            return;
        }

        if (entry.Work is null)
        {
            Record(entry, weights);
        }
        else if (!IsWritten(entry.Before))
        {
            // A gradient would be added to where it must be overwritten, or the other way round.
            model.ForwardBackward(micro, weights);
            return;
        }

        entry.Work!.Replay();
        Replays++;
        for (int i = 0; i < parameters.Count; i++)
        {
            if (entry.After[i]) parameters[i].BeginGradient();
        }

        micro.Context.Faults.Replayed(entry.Operands);
    }

    private void Record(Entry entry, LossWeights weights)
    {
        beforeRecording?.Invoke();
        entry.Before = Written();
        entry.Work = model.Device.Record(() => model.ForwardBackward(micro, weights));
        entry.After = Written();
        entry.Operands = micro.Context.Faults.Count;
    }

    private Entry? EntryOf(Form form)
    {
        if (entries.TryGetValue(form, out Entry? entry)) return entry;

        // Passes beyond are many micro-batches of a step, or a weight that changes from step to step: neither gains from being recorded.
        return entries.Count < Capacity ? entries[form] = new Entry() : null;
    }

    private bool[] Written() => [.. parameters.Select(p => p.HasGradient)];

    private bool IsWritten(bool[] expected)
    {
        for (int i = 0; i < expected.Length; i++)
        {
            if (parameters[i].HasGradient != expected[i]) return false;
        }

        return true;
    }

    /// <summary>What decides which memory a pass uses, and what for.</summary>
    private readonly record struct Form(int Pass, LossWeights Weights, nint Results, nint RotaryTable);

    private sealed class Entry
    {
        public int Occurrences { get; set; }

        public IRecordedWork? Work { get; set; }

        public bool[] Before { get; set; } = [];

        public bool[] After { get; set; } = [];

        public int Operands { get; set; }
    }
}
