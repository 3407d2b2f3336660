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

    private static string[] MergesOf(Tokenizer tokenizer)
    {
        using var folder = new TemporaryFolder();
        tokenizer.Save(folder.Path);
        using JsonDocument file = JsonDocument.Parse(File.ReadAllBytes(folder.File("tokenizer.json")));
        return [.. file.RootElement.GetProperty("model").GetProperty("merges").EnumerateArray().Select(merge => merge.GetString()!)];
    }
}
