// Fill-in-the-middle in prefix-suffix-middle order, on whole documents before packing, at a rate of 0.1 (DeepSeek-V3
// technical report §4.1; Bavarian et al. 2022 for the method):
//   <｜fim▁begin｜> prefix <｜fim▁hole｜> suffix <｜fim▁end｜> middle   and then the end token, as after any document.
// The three parts are tokenised apart, so a cut may fall inside a token: that is what a cursor does too.
namespace Fathom.Text;

/// <summary>Which documents become fill-in-the-middle samples, where they are cut, and with which tokens.</summary>
public sealed record FillInTheMiddle
{
    private const ulong Purpose = 0x46494D; // "FIM"

    /// <summary>Share of the documents that are rearranged, in [0, 1].</summary>
    public double Rate { get; init; } = 0.1;

    /// <summary>Fixes the choice of documents and their cuts, together with each document's index.</summary>
    public ulong Seed { get; init; }

    /// <summary>Id of the token in front of the prefix.</summary>
    public required int BeginId { get; init; }

    /// <summary>Id of the token in the place of the middle, in front of the suffix.</summary>
    public required int HoleId { get; init; }

    /// <summary>Id of the token that ends the suffix and begins the middle.</summary>
    public required int EndId { get; init; }

    /// <summary>
    /// Whether the document is rearranged, and if so where it is cut: the middle is [<paramref name="start"/>,
    /// <paramref name="end"/>) in UTF-16 code units, both drawn uniformly and moved out of surrogate pairs. Any part
    /// may be empty. Depends on the seed, the index and the text's length alone.
    /// </summary>
    public bool TryCut(long documentIndex, ReadOnlySpan<char> text, out int start, out int end)
    {
        SplitMix64 random = new(SplitMix64.Key(Seed, Purpose, (ulong)documentIndex));
        (start, end) = (0, 0);
        if (random.NextUnit() >= Rate) return false;
        int a = Align(text, (int)random.NextBelow((ulong)text.Length + 1));
        int b = Align(text, (int)random.NextBelow((ulong)text.Length + 1));
        (start, end) = (Math.Min(a, b), Math.Max(a, b));
        return true;
    }

    /// <summary>Appends the ids of the document as it is, or rearranged if it is one of those chosen; says which.</summary>
    public bool Encode(long documentIndex, ReadOnlySpan<char> text, ITextEncoder encoder, List<int> ids)
    {
        if (!TryCut(documentIndex, text, out int start, out int end))
        {
            encoder.Encode(text, ids);
            return false;
        }

        ids.Add(BeginId);
        encoder.Encode(text.Slice(0, start), ids);
        ids.Add(HoleId);
        encoder.Encode(text.Slice(end), ids);
        ids.Add(EndId);
        encoder.Encode(text.Slice(start, end - start), ids);
        return true;
    }

    private static int Align(ReadOnlySpan<char> text, int cut) =>
        cut > 0 && cut < text.Length && char.IsLowSurrogate(text[cut]) && char.IsHighSurrogate(text[cut - 1]) ? cut + 1 : cut;
}
