using System.IO.Compression;
using System.Text;
using Fathom.Testing;
using Xunit;

namespace Fathom.Text.Tests.Corpora;

public sealed class CorpusReadTests(ITestOutputHelper output) : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_short_text_file_is_one_document()
    {
        string path = Write("a.txt", "\uFEFFHello\n\nworld 𝔽\n");
        CorpusReport report = new();
        Document document = Assert.Single(Corpus.Read(path, report: report));
        Assert.Equal("Hello\n\nworld 𝔽\n", document.Text);
        Assert.Equal("a.txt", document.Source);
        Assert.Equal((1, 1, 16, 18), (report.Files, report.Documents, report.Characters, report.Utf8Bytes));
    }

    [Theory]
    [InlineData(64)]
    [InlineData(500)]
    [InlineData(16 * 1024)]
    public void Pieces_of_a_large_file_are_the_file_and_respect_the_limit(int limit)
    {
        StringBuilder text = new();
        SplitMix64 random = new(3);
        for (int i = 0; i < 3000; i++)
        {
            text.Append("Zeile ").Append(i).Append(" — ünïcödé 𝔽 ").Append('x', (int)random.NextBelow(90)).Append('\n');
            if (random.NextBelow(4) == 0) text.Append(random.NextBelow(2) == 0 ? " \r\n" : "\n");
        }

        text.Append('漢', 3 * limit);
        string path = Write("big.txt", text.ToString());
        List<string> pieces = [.. Corpus.Read(path, new CorpusOptions { MaximumPieceBytes = limit }).Select(static p => p.Text)];
        List<string> expected = [.. PiecesByTheRule(Encoding.UTF8.GetBytes(text.ToString()), limit)];
        Assert.Equal(text.ToString(), string.Concat(expected));
        Assert.Equal(expected.Where(static p => !string.IsNullOrWhiteSpace(p)), pieces);
        int longest = pieces.Max(Encoding.UTF8.GetByteCount);
        output.WriteLine($"limit {limit}: {pieces.Count} pieces, longest {longest} bytes, {pieces.Count(static p => EndsAfterBlankLine(Encoding.UTF8.GetBytes(p)))} end after a blank line");
        Assert.True(longest <= limit);
    }

    /// <summary>Tries every cut and takes the last of the best kind.</summary>
    private static IEnumerable<string> PiecesByTheRule(byte[] file, int limit)
    {
        for (int start = 0; start < file.Length;)
        {
            int best = file.Length - start, bestRank = -1;
            for (int length = 1; length <= limit && file.Length - start > limit; length++)
            {
                ReadOnlySpan<byte> piece = file.AsSpan(start, length);
                int rank = EndsAfterBlankLine(piece) ? 3 : piece[^1] == '\n' ? 2 : piece[^1] == ' ' ? 1 : (file[start + length] & 0xC0) != 0x80 ? 0 : -1;
                if (rank >= bestRank && rank >= 0) (best, bestRank) = (length, rank);
            }

            yield return Encoding.UTF8.GetString(file, start, best);
            start += best;
        }
    }

    private static bool EndsAfterBlankLine(ReadOnlySpan<byte> piece)
    {
        if (piece[^1] != '\n') return false;
        int before = piece[..^1].LastIndexOfAnyExcept(" \t\r"u8);
        return before >= 0 && piece[before] == '\n';
    }

    [Fact]
    public void Tinyshakespeare_becomes_documents_that_can_be_split()
    {
        string path = Golden.Shared("corpus", "tinyshakespeare", "input.txt");
        CorpusReport report = new();
        List<Document> documents = [.. Corpus.Read(path, report: report)];
        output.WriteLine(report.ToString());
        Assert.Equal(File.ReadAllText(path), string.Concat(documents.Select(static d => d.Text)));
        Assert.All(documents.SkipLast(1), static d => Assert.EndsWith("\n\n", d.Text));
        Assert.InRange(documents.Count, 69, 80);
    }

    [Fact]
    public void A_separator_divides_a_text_file()
    {
        string path = Write("s.txt", "one<|end|>two\n\n" + new string('x', 300_000) + "<|end|><|end|>  <|end|>three");
        CorpusReport report = new();
        List<Document> documents = [.. Corpus.Read(path, new CorpusOptions { Separator = "<|end|>" }, report)];
        Assert.Equal(["one", "two\n\n" + new string('x', 300_000), "three"], documents.Select(static d => d.Text));
        Assert.Equal(2, report.SkippedEmpty);
    }

    [Fact]
    public void Json_lines_give_the_chosen_field_and_count_what_they_lack()
    {
        string path = Write("d.jsonl", """
            {"text": "first \"quoted\" \u00e9", "n": {"text": "inner"}}

            {"n": [1, {"text": "no"}], "text": "second"}
            {"other": 1}
            [1, 2]
            {"text": 5}
            {"text": "cut off
            {"text": "lone \ud800"}
            {"text": "  "}
            {"text": "last", "text": "wins"}
            {"text": "a"} trailing
            """.ReplaceLineEndings("\r\n"));
        CorpusReport report = new();
        List<Document> documents = [.. Corpus.Read(path, report: report)];
        output.WriteLine(report.ToString());
        Assert.Equal(["first \"quoted\" é", "second", "wins"], documents.Select(static d => d.Text));
        Assert.Equal(["d.jsonl:1", "d.jsonl:3", "d.jsonl:10"], documents.Select(static d => d.Source));
        Assert.Equal((6, 1), (report.SkippedBadLines, report.SkippedEmpty));
        Assert.Equal("d.jsonl:4: the object has no field \"text\"", report.FirstBadLine);
    }

    [Fact]
    public void Another_field_and_format_can_be_chosen()
    {
        string path = Write("d.data", "{\"body\": \"yes\", \"text\": \"no\"}\n");
        CorpusOptions options = new() { Format = CorpusFormat.JsonLines, TextField = "body" };
        Assert.Equal("yes", Assert.Single(Corpus.Read(path, options)).Text);
        Assert.StartsWith("{\"body\"", Assert.Single(Corpus.Read(path)).Text, StringComparison.Ordinal);
    }

    [Fact]
    public void Gzip_is_found_by_its_bytes_and_may_have_several_members()
    {
        byte[] twice = [.. Gzip("{\"text\": \"a\"}\n"), .. Gzip("{\"text\": \"b\"}\n")];
        File.WriteAllBytes(_folder.File("x.jsonl.gz"), twice);
        File.WriteAllBytes(_folder.File("y.jsonl"), twice);
        File.WriteAllBytes(_folder.File("z.txt.gz"), Gzip("plain"));
        Assert.Equal(["a", "b", "a", "b", "plain"], Corpus.Read(_folder.Path).Select(static d => d.Text));
    }

    [Fact]
    public void Every_truncation_of_a_gzip_file_is_an_error_that_names_it()
    {
        byte[] whole = Gzip(string.Concat(Enumerable.Range(0, 400).Select(static i => $"line {i * 7919 % 1000}\n")));
        string path = _folder.File("cut.txt.gz");
        for (int length = 2; length < whole.Length; length++)
        {
            File.WriteAllBytes(path, whole[..length]);
            TextFormatException error = Assert.Throws<TextFormatException>(() => Corpus.Read(path).ToList());
            Assert.Contains(path, error.Message);
            if (length == whole.Length / 2) output.WriteLine(error.Message);
        }
    }

    [Fact]
    public void A_whole_gzip_file_of_any_length_is_read_whole()
    {
        // The compressed length passes over the sizes of the decompressor's own buffer (8 KiB) and block.
        SplitMix64 random = new(1);
        string path = _folder.File("whole.txt.gz");
        CorpusOptions options = new() { Separator = "\0" };
        for (int length = 8100; length < 8260; length++)
        {
            string text = string.Create(length, random, static (chars, r) =>
            {
                foreach (ref char c in chars) c = (char)(' ' + r.NextBelow(95));
            });
            using (FileStream stream = File.Create(path))
            using (GZipStream gzip = new(stream, CompressionLevel.NoCompression)) gzip.Write(Encoding.UTF8.GetBytes(text));
            Assert.Equal(text, Assert.Single(Corpus.Read(path, options)).Text);
        }
    }

    [Fact]
    public void Altered_gzip_data_are_refused_by_their_checksum()
    {
        string text = string.Concat(Enumerable.Range(0, 400).Select(static i => $"line {i * 7919 % 1000}\n"));
        byte[] whole = Gzip(text);
        string path = _folder.File("altered.txt.gz");
        int refused = 0;
        for (int i = 10; i < whole.Length; i++)
        {
            byte[] altered = [.. whole];
            altered[i] ^= 0x10;
            File.WriteAllBytes(path, altered);
            try
            {
                // A bit that codes nothing may change; the text may not.
                Assert.Equal(text, string.Concat(Corpus.Read(path).Select(static d => d.Text)));
            }
            catch (TextFormatException error)
            {
                refused++;
                Assert.Contains(path, error.Message);
            }
        }

        output.WriteLine($"{refused} of {whole.Length - 10} alterations refused, the others changed nothing");
        Assert.True(refused > whole.Length - 20);
    }

    [Fact]
    public void A_folder_is_read_in_ordinal_order_without_hidden_build_and_binary_files()
    {
        Write("b.txt", "b");
        Write("B.md", "B");
        Write("sub/a.cs", "a");
        Write("sub-x/a.cs", "sub-x");
        Write(".git/config", "hidden");
        Write(".hidden", "hidden");
        Write("sub/bin/out.txt", "built");
        Write("obj/out.txt", "built");
        Write("empty.txt", "");
        File.WriteAllBytes(_folder.File("image.png"), [0x89, 0x50, 0x4E, 0x47, 0, 0, 1]);
        File.WriteAllBytes(_folder.File("latin1.txt"), [.. "caf"u8, 0xE9, .. " au lait"u8]);
        CorpusReport report = new();
        List<Document> documents = [.. Corpus.Read(_folder.Path, report: report)];
        output.WriteLine(report.ToString());
        Assert.Equal(["B.md", "b.txt", "sub-x/a.cs", "sub/a.cs"], documents.Select(static d => d.Source));
        Assert.Equal((1, 2), (report.SkippedEmpty, report.SkippedNotUtf8));
    }

    [Fact]
    public void A_link_that_leads_back_into_the_folder_does_not_loop()
    {
        Write("sub/a.txt", "a");
        try
        {
            Directory.CreateSymbolicLink(_folder.File("sub", "loop"), _folder.Path);
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            Assert.Skip("symbolic links cannot be made here: " + failure.Message);
        }

        Assert.Equal("a", Assert.Single(Corpus.Read(_folder.Path)).Text);
    }

    [Fact]
    public void Enumerating_twice_gives_the_same_documents_and_counts()
    {
        Write("a.txt", "one");
        Write("b.txt", "two");
        CorpusReport report = new();
        IEnumerable<Document> corpus = Corpus.Read(_folder.Path, report: report);
        Assert.Equal(corpus.ToList(), corpus.ToList());
        Assert.Equal(2, report.Documents);
    }

    [Fact]
    public void What_cannot_be_read_is_refused_with_a_line_that_names_it()
    {
        Refused(_folder.File("nowhere"), "there is no such file or folder");
        Directory.CreateDirectory(_folder.File("void"));
        Refused(_folder.File("void"), "the folder holds no readable files");
        Refused(Write("blank.txt", " \n\n "), "1 empty");
        Refused(Write("zero.txt", ""), "1 empty");
        File.WriteAllBytes(_folder.File("bin.dat"), [1, 0, 2]);
        Refused(_folder.File("bin.dat"), "1 not UTF-8 text");
        Refused(Write("all-bad.jsonl", "{}\n[]\n"), "none of 2 lines", "field \"text\"", "line 1");
        Refused(Write("blank.jsonl", "\n \n"), "no document is left");

        void Refused(string path, params string[] parts)
        {
            TextFormatException error = Assert.Throws<TextFormatException>(() => Corpus.Read(path).ToList());
            output.WriteLine(error.Message);
            Assert.Contains(path, error.Message);
            Assert.DoesNotContain('\n', error.Message);
            foreach (string part in parts) Assert.Contains(part, error.Message);
        }
    }

    [Fact]
    public void Impossible_options_are_refused()
    {
        string path = Write("a.txt", "a");
        Assert.Throws<TextFormatException>(() => Corpus.Read(path, new CorpusOptions { MaximumPieceBytes = 15 }));
        Assert.Throws<TextFormatException>(() => Corpus.Read(path, new CorpusOptions { Separator = "" }));
    }

    [Fact]
    public void The_fingerprint_follows_files_and_options()
    {
        string path = Write("a.txt", "one");
        string first = Corpus.Fingerprint(_folder.Path);
        Assert.Equal(first, Corpus.Fingerprint(_folder.Path));
        Assert.NotEqual(first, Corpus.Fingerprint(_folder.Path, new CorpusOptions { TextField = "body" }));
        File.AppendAllText(path, "more");
        Assert.NotEqual(first, Corpus.Fingerprint(_folder.Path));
    }

    [Fact]
    public void The_books_are_read_from_gzip_json_lines()
    {
        string path = Golden.Shared("corpus", "classic-books", "valid.jsonl.gz");
        CorpusReport report = new();
        int titles = Corpus.Read(path, report: report).Count();
        output.WriteLine(report.ToString());
        Assert.Equal(titles, report.Documents);
        Assert.Equal((0, 0, 0), (report.SkippedBadLines, report.SkippedEmpty, report.SkippedNotUtf8));
        Assert.Equal(titles, Corpus.Read(path, new CorpusOptions { TextField = "title" }).Count());
    }

    private string Write(string name, string text)
    {
        string path = _folder.File(name.Split('/'));
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllText(path, text);
        return path;
    }

    private static byte[] Gzip(string text)
    {
        using MemoryStream bytes = new();
        using (GZipStream gzip = new(bytes, CompressionLevel.Optimal)) gzip.Write(Encoding.UTF8.GetBytes(text));
        return bytes.ToArray();
    }
}
