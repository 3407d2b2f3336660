// An index out of range is found by a kernel, long after the operator's call has returned. The kernel writes a note straight into
// page-locked host memory (faults.cuh), which costs nothing where there is none, and the host looks at it whenever it has waited
// for the GPU anyway: before it reads a result.
using System.Globalization;

namespace Fathom.Compute.Cuda.Runtime;

/// <summary>Bad indices that kernels have met.</summary>
internal sealed unsafe class DeviceFaults
{
    private readonly PinnedMemory memory;

    public DeviceFaults(CudaContext context)
    {
        memory = new PinnedMemory(context, sizeof(Note));
        *(Note*)memory.Address = default;
    }

    /// <summary>Where kernels write: their parameter <c>Fault*</c>.</summary>
    public nint Address => memory.Address;

    /// <summary>Throws what was noted since the last call. To be called after waiting for the GPU.</summary>
    /// <exception cref="ArgumentException">An operator was given an index outside its table; the message is the CPU's.</exception>
    public void Check()
    {
        Note note = *(Note*)memory.Address;
        if (note.Code == 0) return;
        *(Note*)memory.Address = default;
        throw new ArgumentException(Describe(note));
    }

    /// <summary>The message of a note.</summary>
    internal static string Describe(in Note note)
    {
        (string subject, string limits) = note.Code switch
        {
            1 => ("embedding: token id {0} at place {1}", "the vocabulary of {2}"),
            2 => ("embedding weight gradient: token id {0} at place {1}", "the vocabulary of {2}"),
            3 => ("rotary: position {0} of token {1}", "the tables of {2} positions"),
            4 => ("cross-entropy: target {0} of row {1}", "the vocabulary of {2}"),
            5 => ("cache store: slot {0} of token {1}", "the cache of {2} rows"),
            6 => ("cache load: slot {0} of token {1}", "the cache of {2} rows"),
            7 => ("attention.latent_decode: length {0} of sequence {1}", "1 to {2}, the tokens of its row of the block tables"),
            8 => ("attention.latent_decode: cache block {0} of sequence {1}", "the cache of {2} blocks"),
            9 => ("sampling: row {0} of entry {1}", "the {2} rows of logits"),
            10 => ("sampling.adjust: mask {0} of entry {1}", "the {2} masks"),
            11 => ("sampling.adjust: some change of entry {1}", "the list of changes"),
            12 => ("sampling.adjust: token {0} of change {1}", "the vocabulary of {2}"),
            _ => ("index {0} at place {1} of an unknown operator", "the {2} entries"),
        };
        return string.Format(CultureInfo.InvariantCulture, $"{subject} is outside {limits}", note.Value, note.Place, note.Limit);
    }

    /// <summary>What a kernel notes (Fault of faults.cuh).</summary>
    /// <param name="Code">Which operator.</param>
    /// <param name="Value">The index.</param>
    /// <param name="Place">Where it stood.</param>
    /// <param name="Limit">How many there are.</param>
    internal readonly record struct Note(int Code, int Value, int Place, int Limit);
}
