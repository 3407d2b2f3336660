namespace Fathom.Text;

/// <summary>Training samples by number: sample i is the same tokens whenever and wherever it is asked for.</summary>
public interface ITokenBatches
{
    /// <summary>T: the tokens of a sample that are inputs.</summary>
    int SequenceLength { get; }

    /// <summary>Samples of one pass over the data; sample <c>SamplesPerEpoch * e + i</c> is sample i of pass e.</summary>
    long SamplesPerEpoch { get; }

    /// <summary>Writes sample <paramref name="sampleIndex"/>: T + 1 tokens, of which the first T are inputs and the last T targets.</summary>
    void Fill(long sampleIndex, Span<int> tokens);
}
