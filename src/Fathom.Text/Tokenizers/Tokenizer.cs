// Text to token ids and back: byte-level byte-pair encoding as Hugging Face tokenizers defines it in tokenizer.json, for
// DeepSeek-V3's file and its family. Added tokens are cut out first, the rest is cut into words (PreTokenizer), and each
// word's bytes are merged (WordMerger). No begin-of-sequence token is ever added by itself: see AddsBos.
//
// The trap is trust: by default the text of a control token becomes that token, as the published tokenizers do. Text from
// a user goes in with allowSpecial: false, or the user can write the assistant's turn.
using System.Buffers;
using System.Text;

namespace Fathom.Text;

/// <summary>A byte-level byte-pair tokenizer. Safe for use by many threads at once.</summary>
public sealed class Tokenizer : ITextEncoder
{
    private readonly TokenizerDefinition _definition;
    private readonly Vocabulary _vocabulary;
    private readonly MergeTable _merges;
    private readonly int[] _byteIds; // [256]
    private readonly AddedTokenMatcher[] _passes;
    private readonly HashSet<int> _specialIds;
    private readonly WordEncoder?[] _idleEncoders = new WordEncoder?[Environment.ProcessorCount];

    internal Tokenizer(TokenizerDefinition definition)
    {
        _definition = definition;
        _vocabulary = new Vocabulary(definition.Vocabulary, definition.AddedTokens);
        _merges = new MergeTable(definition.Merges);
        _byteIds = [.. Enumerable.Range(0, 256).Select(value => definition.Vocabulary[ByteLevelAlphabet.ToCharacter((byte)value).ToString()])];
        _passes =
        [
            .. definition.AddedTokens.GroupBy(token => token.Normalized).OrderBy(group => group.Key)
                .Select(group => new AddedTokenMatcher([.. group])),
        ];
        _specialIds = [.. definition.AddedTokens.Where(token => token.Special).Select(token => token.Id)];
    }

    /// <summary>Largest token id + 1. The embedding table of a model may have more rows (DeepSeek-V3: 129,280 for 128,815).</summary>
    public int VocabularySize => _vocabulary.Size;

    /// <summary>Begin-of-sequence token, or null if the tokenizer has none.</summary>
    public int? BosId => _definition.BosId;

    /// <summary>End-of-sequence token, or null if the tokenizer has none.</summary>
    public int? EosId => _definition.EosId;

    /// <summary>Padding token (in DeepSeek's files often the same as <see cref="EosId"/>), or null if the tokenizer has none.</summary>
    public int? PadId => _definition.PadId;

    /// <summary>Token before the prefix in fill-in-the-middle, or null.</summary>
    public int? FimBegin => TryGetId(SpecialTokenNames.FimBegin);

    /// <summary>Token before the suffix in fill-in-the-middle, or null.</summary>
    public int? FimHole => TryGetId(SpecialTokenNames.FimHole);

    /// <summary>Token before the middle part in fill-in-the-middle, or null.</summary>
    public int? FimEnd => TryGetId(SpecialTokenNames.FimEnd);

    /// <summary>
    /// Whether the files say that <see cref="BosId"/> goes before every text. Encoding does not add it: callers do, once a sequence.
    /// </summary>
    public bool AddsBos => _definition.AddsBos;

    /// <summary>The Jinja chat template beside the tokenizer, or null.</summary>
    public string? ChatTemplate => _definition.ChatTemplate;

    /// <summary>How text is cut into words.</summary>
    public PreTokenizer PreTokenizer => _definition.PreTokenizer;

    /// <summary>The tokens that are found in text as a whole, in the order of the file.</summary>
    public IReadOnlyList<AddedToken> AddedTokens => _definition.AddedTokens;

    /// <summary>
    /// Loads a tokenizer.json, with the tokenizer_config.json, special_tokens_map.json and chat_template.jinja beside it
    /// where they exist.
    /// </summary>
    /// <param name="path">The file, or the folder that holds it.</param>
    /// <exception cref="TextFormatException">A file is missing, broken, or of a kind that is not byte-level byte-pair encoding.</exception>
    public static Tokenizer Load(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        return new Tokenizer(TokenizerReader.Read(path));
    }

    /// <summary>
    /// Writes tokenizer.json and tokenizer_config.json as Hugging Face tokenizers and transformers read them. Each file
    /// appears whole or not at all.
    /// </summary>
    /// <param name="folder">Created if it does not exist; files of these names in it are replaced.</param>
    /// <param name="chatTemplate">The Jinja chat template to store; null keeps the one this tokenizer was loaded with.</param>
    /// <param name="modelMaxLength">Longest sequence in tokens; null keeps the stored one, or DeepSeek's 131,072.</param>
    public void Save(string folder, string? chatTemplate = null, long? modelMaxLength = null) => TokenizerWriter.Write(
        _definition with
        {
            ChatTemplate = chatTemplate ?? _definition.ChatTemplate,
            ModelMaxLength = modelMaxLength ?? _definition.ModelMaxLength ?? 131072,
        },
        folder);

    /// <summary>The ids of <paramref name="text"/>; text of added tokens becomes those tokens.</summary>
    public int[] Encode(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        List<int> ids = new(text.Length / 4 + 4);
        Encode(text, ids);
        return [.. ids];
    }

    /// <summary>Appends the ids of <paramref name="text"/> to <paramref name="ids"/>.</summary>
    /// <param name="text">UTF-16 text of any content; a lone surrogate is encoded as U+FFFD.</param>
    /// <param name="ids">Receives the ids; nothing is added before or after them.</param>
    /// <param name="allowSpecial">
    /// Whether the text of an added token (<c>&lt;｜User｜&gt;</c>, <c>&lt;think&gt;</c>) becomes that token. False for text that is not
    /// trusted: then it is encoded as the plain characters it consists of.
    /// </param>
    /// <exception cref="TextFormatException">
    /// The tokenizer's pre_tokenizer is a regular expression of its own that takes seconds on this text; not with DeepSeek-V3's or GPT-2's.
    /// </exception>
    public void Encode(ReadOnlySpan<char> text, List<int> ids, bool allowSpecial = true)
    {
        ArgumentNullException.ThrowIfNull(ids);
        WordEncoder encoder = RentEncoder();
        EncodePass(text, ids, encoder, allowSpecial ? 0 : _passes.Length);
        ReturnEncoder(encoder);
    }

    /// <summary>Corpus text is data: what looks like a special token in it is plain text.</summary>
    void ITextEncoder.Encode(ReadOnlySpan<char> text, List<int> ids) => Encode(text, ids, allowSpecial: false);

    /// <summary>Appends the ids of UTF-8 text; bytes that are not UTF-8 are encoded as U+FFFD.</summary>
    /// <param name="utf8">The text.</param>
    /// <param name="ids">Receives the ids.</param>
    /// <param name="allowSpecial">As in <see cref="Encode(ReadOnlySpan{char}, List{int}, bool)"/>.</param>
    public void EncodeUtf8(ReadOnlySpan<byte> utf8, List<int> ids, bool allowSpecial = true)
    {
        char[] text = ArrayPool<char>.Shared.Rent(utf8.Length); // never more UTF-16 units than UTF-8 bytes
        Encode(text.AsSpan(0, Encoding.UTF8.GetChars(utf8, text)), ids, allowSpecial);
        ArrayPool<char>.Shared.Return(text);
    }

    /// <summary>The text of <paramref name="ids"/>; bytes that are not UTF-8 come out as U+FFFD.</summary>
    /// <param name="ids">Token ids.</param>
    /// <param name="skipSpecial">Whether to leave out tokens for which <see cref="IsSpecial"/> holds.</param>
    /// <exception cref="ArgumentOutOfRangeException">An id is not in the vocabulary.</exception>
    public string Decode(ReadOnlySpan<int> ids, bool skipSpecial = false)
    {
        var bytes = new ArrayBufferWriter<byte>(ids.Length * 4 + 16);
        foreach (int id in ids)
        {
            if (!skipSpecial || !IsSpecial(id)) bytes.Write(_vocabulary.Bytes(id));
        }

        return Encoding.UTF8.GetString(bytes.WrittenSpan);
    }

    /// <summary>The bytes that a token decodes to; they need not be whole characters.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The id is not in the vocabulary.</exception>
    public ReadOnlySpan<byte> TokenBytes(int id) => _vocabulary.Bytes(id);

    /// <summary>As <see cref="TokenBytes"/>; false where the id is not in the vocabulary.</summary>
    public bool TryGetTokenBytes(int id, out ReadOnlySpan<byte> bytes)
    {
        bool known = _vocabulary.Text(id) is not null;
        bytes = known ? _vocabulary.Bytes(id) : [];
        return known;
    }

    /// <summary>The id of a token as the file writes it (<c>Ġthe</c> for " the", <c>&lt;｜User｜&gt;</c>), or null if there is none.</summary>
    public int? TryGetId(string token) => _vocabulary.TryGetId(token, out int id) ? id : null;

    /// <summary>Whether the file marks the token as special. False for ids that are not in the vocabulary.</summary>
    public bool IsSpecial(int id) => _specialIds.Contains(id);

    private void EncodePass(ReadOnlySpan<char> text, List<int> ids, WordEncoder encoder, int pass)
    {
        if (pass == _passes.Length)
        {
            encoder.Encode(text, ids);
            return;
        }

        int position = 0;
        while (position < text.Length)
        {
            AddedToken? token = _passes[pass].Find(text, position, out int start, out int end);
            EncodePass(text.Slice(position, start - position), ids, encoder, pass + 1);
            if (token is not null) ids.Add(token.Id);
            position = end;
        }
    }

    // A cache of 4 MiB must outlive the call that fills it, and be used by one thread at a time.
    private WordEncoder RentEncoder()
    {
        foreach (ref WordEncoder? slot in _idleEncoders.AsSpan())
        {
            if (Interlocked.Exchange(ref slot, null) is WordEncoder encoder) return encoder;
        }

        return new WordEncoder(PreTokenizer, new WordMerger(_merges, _byteIds), _definition.IgnoreMerges ? _vocabulary : null);
    }

    private void ReturnEncoder(WordEncoder encoder)
    {
        encoder.Trim();
        foreach (ref WordEncoder? slot in _idleEncoders.AsSpan())
        {
            if (Interlocked.CompareExchange(ref slot, encoder, null) is null) return;
        }
    }
}
