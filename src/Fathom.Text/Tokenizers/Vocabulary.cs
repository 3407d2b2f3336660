// Every token of a tokenizer as text (how the file writes it) and as bytes (what it decodes to). The bytes of all tokens
// lie in one array, so that decoding is a copy and 128,000 tokens are not 128,000 objects.
using System.Text;

namespace Fathom.Text;

/// <summary>Token texts, ids and bytes.</summary>
internal sealed class Vocabulary
{
    private readonly Dictionary<string, int> _idOfText;
    private readonly Dictionary<int, string> _literals; // added tokens, whose text stands for itself
    private readonly string?[] _texts; // [Size]; null where an id is not used
    private readonly byte[] _bytes;
    private readonly int[] _starts; // [Size + 1]

    /// <param name="model">The byte-pair model's tokens in the byte-level alphabet.</param>
    /// <param name="added">Added tokens; they may repeat tokens of the model.</param>
    public Vocabulary(IReadOnlyDictionary<string, int> model, IReadOnlyCollection<AddedToken> added)
    {
        _literals = added.ToDictionary(token => token.Id, token => token.Content);
        _idOfText = new(model, StringComparer.Ordinal);
        foreach (AddedToken token in added) _idOfText[token.Content] = token.Id;

        _texts = new string?[_idOfText.Count == 0 ? 0 : _idOfText.Values.Max() + 1];
        foreach ((string text, int id) in _idOfText) _texts[id] = text;

        _starts = new int[_texts.Length + 1];
        var bytes = new MemoryStream();
        for (int id = 0; id < _texts.Length; id++)
        {
            if (_literals.TryGetValue(id, out string? literal)) bytes.Write(Encoding.UTF8.GetBytes(literal));
            else if (_texts[id] is string text) bytes.Write(ByteLevelAlphabet.ToBytes(text));
            _starts[id + 1] = (int)bytes.Length;
        }

        _bytes = bytes.ToArray();
    }

    /// <summary>Largest id + 1.</summary>
    public int Size => _texts.Length;

    /// <summary>The token's text in the file, or null if the id is not used.</summary>
    public string? Text(int id) => (uint)id < (uint)_texts.Length ? _texts[id] : null;

    /// <summary>The id of a token by its text in the file.</summary>
    public bool TryGetId(string text, out int id) => _idOfText.TryGetValue(text, out id);

    /// <summary>The id of a word that is a token of the byte-pair model as a whole; never that of an added token.</summary>
    public bool TryGetWord(ReadOnlySpan<char> word, out int id) =>
        _idOfText.TryGetValue(ByteLevelAlphabet.ToText(Encoding.UTF8.GetBytes(word.ToArray())), out id) && !_literals.ContainsKey(id);

    /// <summary>What the token decodes to.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The id is not in the vocabulary.</exception>
    public ReadOnlySpan<byte> Bytes(int id)
    {
        if (Text(id) is null)
        {
            throw new ArgumentOutOfRangeException(nameof(id), id, (uint)id < (uint)Size
                ? $"token id {id} is not used by this tokenizer (vocabulary size {Size})"
                : $"token id {id} is outside the vocabulary of {Size} tokens (ids 0 to {Size - 1})");
        }

        return _bytes.AsSpan(_starts[id], _starts[id + 1] - _starts[id]);
    }
}
