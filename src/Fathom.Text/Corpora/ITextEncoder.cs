// The one thing that corpora need from a tokenizer, so that they can be built and tested without one.
namespace Fathom.Text;

/// <summary>Turns text into token ids. Implementations must allow concurrent calls.</summary>
public interface ITextEncoder
{
    /// <summary>Number of ids: every id that <see cref="Encode"/> gives is in [0, VocabularySize).</summary>
    int VocabularySize { get; }

    /// <summary>Appends the ids of <paramref name="text"/> to <paramref name="ids"/>; adds no begin or end token. A
    /// document that spells out a special token must not be able to end itself: such text is encoded as plain text.</summary>
    void Encode(ReadOnlySpan<char> text, List<int> ids);
}
