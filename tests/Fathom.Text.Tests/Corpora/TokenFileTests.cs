using System.Text;
using Fathom.Testing;
using Xunit;

namespace Fathom.Text.Tests.Corpora;

public sealed class TokenFileTests(ITestOutputHelper output) : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(261)]
    [InlineData(65_536)]
    [InlineData(65_537)]
    public void Tokens_documents_and_bytes_come_back(int vocabularySize)
    {
        List<Document> documents = TestDocuments.Make(700);
        ByteEncoder encoder = new() { VocabularySize = vocabularySize };
        string path = _folder.File("t.tok");
        using TokenFile file = TestDocuments.Build(path, documents, encoder, TestDocuments.Options());
        file.Verify();

        List<int> expected = [];
        long bytes = 0;
        for (int i = 0; i < documents.Count; i++)
        {
            Assert.Equal(expected.Count, file.DocumentStart(i));
            Assert.Equal(bytes, file.Utf8BytesBefore(i));
            encoder.Encode(documents[i].Text, expected);
            expected.Add(ByteEncoder.Eos);
            bytes += Encoding.UTF8.GetByteCount(documents[i].Text);
        }

        Assert.Equal(expected, TestDocuments.AllTokens(file));
        Assert.Equal((documents.Count, bytes, vocabularySize, ByteEncoder.Eos, (int?)null), (file.DocumentCount, file.Utf8Bytes, file.VocabularySize, file.EosId, file.BosId));
        Assert.Equal(TestDocuments.Options().Key, file.Key);
        int width = vocabularySize <= 65_536 ? 2 : 4;
        output.WriteLine($"vocabulary {vocabularySize}: {file.TokenCount} tokens, file of {new FileInfo(path).Length} bytes");
        Assert.InRange(new FileInfo(path).Length - 16 * (documents.Count + 1) - 256, width * file.TokenCount, width * file.TokenCount + 7);
    }

    [Fact]
    public void The_bytes_do_not_depend_on_the_number_of_threads()
    {
        List<Document> documents = TestDocuments.Make(6000);
        byte[]? first = null;
        foreach (int workers in new[] { 1, 2, 7 })
        {
            string path = _folder.File($"w{workers}.tok");
            TestDocuments.Build(path, documents, new ByteEncoder(), TestDocuments.Options(TestDocuments.Fim(0.3)), workers).Dispose();
            byte[] bytes = File.ReadAllBytes(path);
            first ??= bytes;
            Assert.Equal(first, bytes);
        }

        output.WriteLine($"{first!.Length} equal bytes with 1, 2 and 7 workers");
    }

    [Fact]
    public void Every_truncation_is_refused()
    {
        string path = Build(20);
        byte[] whole = File.ReadAllBytes(path);
        for (int length = 0; length < whole.Length; length++)
        {
            File.WriteAllBytes(path, whole[..length]);
            Assert.Contains(path, Assert.Throws<TextFormatException>(() => TokenFile.Open(path)).Message);
        }

        File.WriteAllBytes(path, [.. whole, 0]);
        output.WriteLine(Assert.Throws<TextFormatException>(() => TokenFile.Open(path)).Message);
        File.WriteAllBytes(path, whole);
        TokenFile.Open(path).Dispose();
    }

    [Fact]
    public void Every_altered_header_byte_is_refused_and_every_other_altered_byte_is_found_by_verifying()
    {
        string path = Build(5);
        byte[] whole = File.ReadAllBytes(path);
        for (int i = 0; i < whole.Length; i++)
        {
            byte[] altered = [.. whole];
            altered[i] ^= (byte)(1 << (i % 8));
            File.WriteAllBytes(path, altered);
            TextFormatException error = Assert.Throws<TextFormatException>(() =>
            {
                using TokenFile file = TokenFile.Open(path);
                Assert.True(i >= 256, $"the header with byte {i} altered was accepted");
                file.Verify();
            });
            Assert.Contains(path, error.Message);
        }
    }

    [Fact]
    public void An_altered_id_outside_the_vocabulary_does_not_reach_the_model()
    {
        string path = Build(5);
        byte[] bytes = File.ReadAllBytes(path);
        bytes[256 + 2 * 10 + 1] = 0xFF;
        File.WriteAllBytes(path, bytes);
        using TokenFile file = TokenFile.Open(path);
        int[] tokens = new int[10];
        file.CopyTokens(0, tokens);
        TextFormatException error = Assert.Throws<TextFormatException>(() => file.CopyTokens(1, tokens));
        output.WriteLine(error.Message);
        Assert.Throws<ArgumentOutOfRangeException>(() => file.CopyTokens(file.TokenCount - 9, tokens));
        Assert.Throws<ArgumentOutOfRangeException>(() => file.DocumentTokens(5));
    }

    [Fact]
    public void A_cached_file_is_used_only_for_the_same_key()
    {
        string path = Build(5);
        TokenFileOptions options = TestDocuments.Options();
        Assert.True(TokenFile.TryOpen(path, options.Key, out TokenFile? file, out _));
        file.Dispose();

        TokenFileOptions[] others =
        [
            options with { TokenizerKey = "other" }, options with { CorpusKey = "other" }, options with { BosId = 257 },
            options with { EosId = 255 }, options with { FillInTheMiddle = TestDocuments.Fim(0.1) },
        ];
        Assert.Equal(others.Length + 1, others.Select(static o => o.Key).Append(options.Key).Distinct().Count());
        Assert.All(others, o => Assert.False(TokenFile.TryOpen(path, o.Key, out _, out string? reason), reason));
        Assert.False(TokenFile.TryOpen(path + ".absent", options.Key, out _, out string? absent));
        File.WriteAllText(path, "something else");
        Assert.False(TokenFile.TryOpen(path, options.Key, out _, out string? damaged));
        output.WriteLine(absent);
        output.WriteLine(damaged);
    }

    [Fact]
    public void A_failed_build_leaves_the_old_file_and_nothing_else()
    {
        string path = Build(5);
        byte[] before = File.ReadAllBytes(path);
        Assert.Throws<TextFormatException>(() => TestDocuments.Build(path, [], new ByteEncoder(), TestDocuments.Options()));
        Assert.Throws<InvalidDataException>(() => TestDocuments.Build(path, Failing(), new ByteEncoder(), TestDocuments.Options(), workers: 2));
        TextFormatException outside = Assert.Throws<TextFormatException>(() => TestDocuments.Build(path, TestDocuments.Make(3), new ByteEncoder { VocabularySize = 257 - 59 }, TestDocuments.Options() with { EosId = 1 }));
        output.WriteLine(outside.Message);
        using CancellationTokenSource stop = new();
        stop.Cancel();
        Assert.ThrowsAny<OperationCanceledException>(() => TokenFileBuilder.Build(path, TestDocuments.Make(3), new ByteEncoder(), TestDocuments.Options(), cancellation: stop.Token));
        Assert.Equal(before, File.ReadAllBytes(path));
        Assert.Equal([path], Directory.GetFiles(_folder.Path));

        static IEnumerable<Document> Failing()
        {
            foreach (Document document in TestDocuments.Make(3000)) yield return document;
            throw new InvalidDataException("the source failed");
        }
    }

    [Fact]
    public void Impossible_requests_are_refused_with_a_line()
    {
        Refused(_folder.File("no", "t.tok"), TestDocuments.Options(), "folder");
        Refused(_folder.File("t.tok"), TestDocuments.Options() with { EosId = 300 }, "end token's id 300");
        Refused(_folder.File("t.tok"), TestDocuments.Options() with { BosId = -1 }, "begin token's id -1");
        Refused(_folder.File("t.tok"), TestDocuments.Options(TestDocuments.Fim(1.5)), "rate is 1.5");
        Assert.Throws<TextFormatException>(() => TokenFile.Open(_folder.File("absent.tok")));
        Assert.Throws<TextFormatException>(() => TokenFile.Open(_folder.Path));

        void Refused(string path, TokenFileOptions options, string part)
        {
            TextFormatException error = Assert.Throws<TextFormatException>(() => TestDocuments.Build(path, TestDocuments.Make(1), new ByteEncoder(), options));
            output.WriteLine(error.Message);
            Assert.Contains(part, error.Message);
        }
    }

    private string Build(int documents)
    {
        string path = _folder.File("t.tok");
        TestDocuments.Build(path, TestDocuments.Make(documents), new ByteEncoder(), TestDocuments.Options()).Dispose();
        return path;
    }
}
