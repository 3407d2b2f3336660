// Training against a published result, and against the promise that threads and document order do not matter.
using System.Text.Json;
using Fathom.Testing;
using Xunit;

namespace Fathom.Text.Tests.Tokenizers;

public sealed class BpeTrainerTests(ITestOutputHelper output)
{
    [Fact]
    public void The_reference_corpus_gives_the_reference_vocabulary_and_merges()
    {
        string folder = Golden.Shared("tokenizer", "bpe-training");
        Tokenizer trained = BpeTrainer.Train([File.ReadAllText(Path.Combine(folder, "corpus.en"))], new BpeTrainerOptions
        {
            VocabularySize = 500,
            SpecialTokens = ["<|endoftext|>"],
            PreTokenizer = PreTokenizer.Gpt2,
        }, cancellation: TestContext.Current.CancellationToken);

        string[] expectedMerges = File.ReadAllLines(Path.Combine(folder, "train-bpe-reference-merges.txt"));
        string[] merges = MergesOf(trained);
        int same = expectedMerges.Zip(merges).TakeWhile(pair => pair.First == pair.Second).Count();
        output.WriteLine($"{same} of {expectedMerges.Length} merges equal from the start");
        Assert.Equal(expectedMerges, merges);

        using JsonDocument vocabulary = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "train-bpe-reference-vocab.json")));
        Assert.Equal(500, trained.VocabularySize);
        foreach (JsonProperty entry in vocabulary.RootElement.EnumerateObject()) Assert.Equal(entry.Value.GetInt32(), trained.TryGetId(entry.Name));
    }

    [Theory]
    [InlineData(BpeTieRule.GreatestBytes)]
    [InlineData(BpeTieRule.SmallestIds)]
    public void The_merges_are_those_of_the_slow_definition(BpeTieRule rule)
    {
        // Overlaps ("aaaa") and equal counts are frequent in a tiny alphabet.
        var random = new Random(17);
        int merges = 0;
        for (int round = 0; round < 60; round++)
        {
            string text = string.Join(' ', Enumerable.Range(0, 25).Select(_ => new string([.. Enumerable.Range(0, random.Next(1, 9)).Select(_ => "abc"[random.Next(3)])])));
            Tokenizer trained = Train([text], new BpeTrainerOptions { VocabularySize = 340, SpecialTokens = [], TieRule = rule, MinPairCount = 1, PreTokenizer = PreTokenizer.Gpt2 });
            string[] expected = SlowMerges(text, 340 - 256, rule);
            string[] found = MergesOf(trained);
            if (!expected.SequenceEqual(found)) Assert.Fail($"\"{text}\":\nexpected {string.Join(", ", expected)}\nfound    {string.Join(", ", found)}");
            merges += found.Length;
            Assert.Equal(256 + found.Length, trained.VocabularySize); // every merge is a new token
        }

        output.WriteLine($"{merges} merges in 60 corpora equal to the definition");
    }

    [Fact]
    public void Threads_and_document_order_do_not_change_the_result()
    {
        string[] documents = [.. Enumerable.Range(0, 200).Select(i => $"document {i} of many: the {i * 7919}th word, 你好 {i}; été<｜User｜>{i % 7}\n")];
        var options = new BpeTrainerOptions { VocabularySize = 330 };
        string[] expected = MergesOf(Train(documents, options with { Threads = 1 }));
        Assert.Equal(330 - 264, expected.Length);
        Assert.Equal(expected, MergesOf(Train(documents, options with { Threads = 7 })));
        Assert.Equal(expected, MergesOf(Train(documents.Reverse(), options with { Threads = 3 })));
    }

    [Fact]
    public void Special_tokens_come_first_then_the_bytes_and_no_merge_crosses_a_special_token()
    {
        Tokenizer trained = Train(["<｜User｜>xy<｜User｜>xy<｜User｜>xy"], new BpeTrainerOptions { VocabularySize = 300 });
        Assert.Equal(SpecialTokenNames.All.Select((_, id) => id), SpecialTokenNames.All.Select(name => trained.TryGetId(name)!.Value));
        Assert.Equal(8 + 256 + 1, trained.VocabularySize); // the only pair that repeats is x y
        Assert.Equal(8, trained.TryGetId("!"));
        Assert.Equal(264, trained.TryGetId("xy"));
        Assert.True(trained.AddsBos);
    }

    [Fact]
    public void No_token_is_longer_than_asked_for()
    {
        string text = string.Join(' ', Enumerable.Repeat("abcdefghijklmnop", 50));
        Tokenizer trained = Train([text], new BpeTrainerOptions { VocabularySize = 400, MaxTokenLength = 5 });
        int[] lengths = [.. Enumerable.Range(8, trained.VocabularySize - 8).Select(id => trained.TokenBytes(id).Length)];
        Assert.Equal(5, lengths.Max());
    }

    [Fact]
    public void Progress_is_told_and_cancelling_stops()
    {
        var reports = new List<BpeTrainingProgress>();
        string[] documents = [.. Enumerable.Range(0, 500).Select(i => $"words {i} {i * 31} {i * 17}")];
        var options = new BpeTrainerOptions { VocabularySize = 400, Threads = 1 };
        BpeTrainer.Train(documents, options, new Recorder(reports.Add), TestContext.Current.CancellationToken);
        Assert.Contains(reports, report => report.DocumentsRead == 300 && report.MergesLearned == 0);
        Assert.Equal((500, documents.Sum(text => text.Length), 136, 136), (reports[^1].DocumentsRead, reports[^1].BytesRead, reports[^1].MergesLearned, reports[^1].MergesWanted));

        foreach (int merges in new[] { 0, 100 })
        {
            using var cancel = new CancellationTokenSource();
            Exception? failure = Record.Exception(() => BpeTrainer.Train(documents, options, new Recorder(report =>
            {
                if (report.MergesLearned == merges) cancel.Cancel();
            }), cancel.Token));
            Assert.IsAssignableFrom<OperationCanceledException>(failure);
        }
    }

    [Fact]
    public void A_corpus_that_fails_to_read_fails_with_its_own_error()
    {
        static IEnumerable<string> Broken()
        {
            yield return "fine";
            throw new TextFormatException("reading corpus.jsonl, line 2: expected an object");
        }

        Assert.Throws<TextFormatException>(() => Train(Broken(), new BpeTrainerOptions { VocabularySize = 300, Threads = 2 }));
    }

    [Fact]
    public void Options_that_do_not_fit_are_refused()
    {
        var options = new BpeTrainerOptions { VocabularySize = 300 };
        foreach (BpeTrainerOptions wrong in new[]
        {
            options with { VocabularySize = 263 },
            options with { SpecialTokens = ["<x>", "<x>"] },
            options with { SpecialTokens = [""] },
            options with { SpecialTokens = ["a"] },
            options with { SpecialTokens = ["Ġthe"] },
            options with { MaxTokenLength = 1 },
            options with { MinPairCount = 0 },
            options with { Threads = 0 },
        })
        {
            ArgumentException refused = Assert.ThrowsAny<ArgumentException>(() => Train(["text"], wrong));
            output.WriteLine(refused.Message.ReplaceLineEndings(" "));
        }
    }

    [Fact]
    public void An_empty_corpus_gives_the_bytes()
    {
        Tokenizer trained = Train([], new BpeTrainerOptions { VocabularySize = 1000 });
        Assert.Equal(264, trained.VocabularySize);
        Assert.Equal("héllo", trained.Decode(trained.Encode("héllo")));
    }

    private static Tokenizer Train(IEnumerable<string> documents, BpeTrainerOptions options) =>
        BpeTrainer.Train(documents, options, cancellation: TestContext.Current.CancellationToken);

    /// <summary>Counts every pair anew before every merge. Ties: bytes as text, or ids in order of first making.</summary>
    private static string[] SlowMerges(string text, int wanted, BpeTieRule rule)
    {
        List<int> ends = [];
        PreTokenizer.Gpt2.Split(text, ends);
        List<List<string>> words = [.. ends.Select((end, i) => text[(i == 0 ? 0 : ends[i - 1])..end].Select(c => c.ToString()).ToList())];
        // Bytes keep the order of the byte-level alphabet, where the space (Ġ) comes after the letters.
        List<string> tokens = ["a", "b", "c", " "];
        int letters = tokens.Count;
        List<string> merges = [];
        while (tokens.Count - letters < wanted)
        {
            Dictionary<(string Left, string Right), int> counts = [];
            foreach (List<string> word in words)
            {
                for (int i = 0; i + 1 < word.Count; i++) counts[(word[i], word[i + 1])] = counts.GetValueOrDefault((word[i], word[i + 1])) + 1;
            }

            var candidates = counts.OrderByDescending(pair => pair.Value);
            var ordered = rule == BpeTieRule.GreatestBytes
                ? candidates.ThenByDescending(pair => pair.Key.Left, StringComparer.Ordinal).ThenByDescending(pair => pair.Key.Right, StringComparer.Ordinal)
                : candidates.ThenBy(pair => tokens.IndexOf(pair.Key.Left)).ThenBy(pair => tokens.IndexOf(pair.Key.Right));
            if (!ordered.Any()) break;
            (string left, string right) = ordered.First().Key;
            string merge = $"{left.Replace(' ', 'Ġ')} {right}";
            Assert.DoesNotContain(left + right, tokens);
            merges.Add(merge);
            tokens.Add(left + right);
            foreach (List<string> word in words)
            {
                for (int i = 0; i + 1 < word.Count; i++)
                {
                    if (word[i] != left || word[i + 1] != right) continue;
                    word[i] += right;
                    word.RemoveAt(i + 1);
                }
            }
        }

        return [.. merges];
    }

    private static string[] MergesOf(Tokenizer tokenizer)
    {
        using var folder = new TemporaryFolder();
        tokenizer.Save(folder.Path);
        using JsonDocument file = JsonDocument.Parse(File.ReadAllBytes(folder.File("tokenizer.json")));
        return [.. file.RootElement.GetProperty("model").GetProperty("merges").EnumerateArray().Select(merge => merge.GetString()!)];
    }

    private sealed class Recorder(Action<BpeTrainingProgress> record) : IProgress<BpeTrainingProgress>
    {
        public void Report(BpeTrainingProgress value) => record(value);
    }
}
