using System.Text;
using Xunit;

namespace Fathom.Text.Tests.Corpora;

/// <summary>One id a UTF-8 byte, and ids of its own for the special tokens. Ids need two bytes.</summary>
internal sealed class ByteEncoder : ITextEncoder
{
    public const int Eos = 256;
    public const int Bos = 257;
    public const int FimBegin = 258;
    public const int FimHole = 259;
    public const int FimEnd = 260;

    public int VocabularySize { get; init; } = 261;

    public void Encode(ReadOnlySpan<char> text, List<int> ids)
    {
        byte[] bytes = new byte[Encoding.UTF8.GetByteCount(text)];
        Encoding.UTF8.GetBytes(text, bytes);
        foreach (byte b in bytes) ids.Add(b);
    }

    public static string Decode(IEnumerable<int> ids) => Encoding.UTF8.GetString([.. ids.Select(static i => checked((byte)i))]);
}

internal static class TestDocuments
{
    /// <summary>Documents of varied length, some with characters of several bytes.</summary>
    public static List<Document> Make(int count, ulong seed = 1)
    {
        SplitMix64 random = new(seed);
        string[] words = ["latent", "expert", "café", "router", "𝔽athom", "深い", "token", "\n", "gate"];
        List<Document> documents = [];
        for (int i = 0; i < count; i++)
        {
            StringBuilder text = new($"{i}:");
            for (ulong n = 1 + random.NextBelow(60); n > 0; n--) text.Append(' ').Append(words[random.NextBelow((ulong)words.Length)]);
            documents.Add(new Document(text.ToString(), $"doc{i}"));
        }

        return documents;
    }

    public static TokenFileOptions Options(FillInTheMiddle? fim = null, int? bos = null) =>
        new() { EosId = ByteEncoder.Eos, BosId = bos, FillInTheMiddle = fim, TokenizerKey = "bytes", CorpusKey = "test" };

    public static FillInTheMiddle Fim(double rate, ulong seed = 0) => new()
    {
        Rate = rate,
        Seed = seed,
        BeginId = ByteEncoder.FimBegin,
        HoleId = ByteEncoder.FimHole,
        EndId = ByteEncoder.FimEnd,
    };

    public static TokenFile Build(string path, IEnumerable<Document> documents, ITextEncoder encoder, TokenFileOptions options, int workers = 0) =>
        TokenFileBuilder.Build(path, documents, encoder, options, workers, cancellation: TestContext.Current.CancellationToken);

    public static int[] AllTokens(TokenFile file)
    {
        int[] tokens = new int[file.TokenCount];
        file.CopyTokens(0, tokens);
        return tokens;
    }
}
