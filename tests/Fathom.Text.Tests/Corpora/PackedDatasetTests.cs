using Fathom.Testing;
using Xunit;

namespace Fathom.Text.Tests.Corpora;

public sealed class PackedDatasetTests : IDisposable
{
    private readonly ITestOutputHelper _output;
    private readonly TemporaryFolder _folder = new();
    private readonly TokenFile _file;

    public PackedDatasetTests(ITestOutputHelper output)
    {
        _output = output;
        _file = TestDocuments.Build(_folder.File("t.tok"), TestDocuments.Make(400), new ByteEncoder(), TestDocuments.Options());
    }

    public void Dispose()
    {
        _file.Dispose();
        _folder.Dispose();
    }

    [Theory]
    [InlineData(1, 1)]
    [InlineData(64, 1)]
    [InlineData(64, 3)]
    [InlineData(5000, 2)]
    public void An_epoch_is_its_shuffled_documents_each_token_once(int sequenceLength, int lookahead)
    {
        PackedDataset dataset = new(_file, sequenceLength, seed: 11, lookahead);
        int[] all = TestDocuments.AllTokens(_file);
        foreach (long epoch in new long[] { 0, 1, 5 })
        {
            int[] order = dataset.DocumentOrder(epoch).ToArray();
            Assert.Equal(Enumerable.Range(0, _file.DocumentCount), order.Order());
            List<int> stream = [];
            foreach (int document in order)
                stream.AddRange(all.AsSpan((int)_file.DocumentStart(document), (int)_file.DocumentTokens(document)));

            int[] tokens = new int[dataset.TokensPerSample];
            for (int i = 0; i < dataset.SamplesPerEpoch; i++)
            {
                dataset.Fill(epoch * dataset.SamplesPerEpoch + i, tokens);
                Assert.Equal(stream.GetRange(i * sequenceLength, tokens.Length), tokens);
            }

            // Another window would not fit.
            Assert.True((dataset.SamplesPerEpoch + 1) * sequenceLength + lookahead > stream.Count);
        }

        _output.WriteLine($"T {sequenceLength}: {dataset.SamplesPerEpoch} samples cover {dataset.SamplesPerEpoch * sequenceLength} of {_file.TokenCount} tokens");
    }

    [Fact]
    public void Orders_differ_between_epochs_and_seeds_and_are_fixed_by_both()
    {
        PackedDataset dataset = new(_file, 64, seed: 1);
        int[] first = dataset.DocumentOrder(0).ToArray(), second = dataset.DocumentOrder(1).ToArray();
        Assert.NotEqual(first, second);
        Assert.NotEqual(first, new PackedDataset(_file, 64, seed: 2).DocumentOrder(0).ToArray());
        Assert.Equal(second, new PackedDataset(_file, 512, seed: 1).DocumentOrder(1).ToArray());

        // A random permutation has one fixed point on average.
        int moved = first.Where(static (document, place) => document != place).Count();
        _output.WriteLine($"{moved} of {first.Length} documents moved");
        Assert.InRange(moved, first.Length - 8, first.Length);
    }

    [Fact]
    public void A_resumed_run_and_any_order_of_asking_give_the_same_samples()
    {
        PackedDataset straight = new(_file, 100, seed: 3);
        int[][] expected = new int[3 * straight.SamplesPerEpoch][];
        for (int i = 0; i < expected.Length; i++) straight.Fill(i, expected[i] = new int[101]);

        PackedDataset resumed = new(_file, 100, seed: 3);
        int[] tokens = new int[101];
        for (int i = expected.Length - 1; i >= 0; i -= 7)
        {
            resumed.Fill(i, tokens);
            Assert.Equal(expected[i], tokens);
        }

        PackedDataset shared = new(_file, 100, seed: 3);
        Parallel.For(0, expected.Length, new ParallelOptions { MaxDegreeOfParallelism = 4 }, i =>
        {
            int[] mine = new int[101];
            shared.Fill((i * 37) % expected.Length, mine);
            Assert.Equal(expected[(i * 37) % expected.Length], mine);
        });
    }

    [Fact]
    public void Fill_does_not_allocate_once_the_order_is_known()
    {
        PackedDataset dataset = new(_file, 256, seed: 3);
        int[] tokens = new int[257];
        dataset.Fill(0, tokens);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (long i = 0; i < dataset.SamplesPerEpoch; i++) dataset.Fill(i, tokens);
        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        _output.WriteLine($"{allocated} bytes allocated by {dataset.SamplesPerEpoch} samples");
        Assert.Equal(0, allocated);
    }

    [Fact]
    public void Too_little_text_and_wrong_buffers_are_refused()
    {
        int tokens = (int)_file.TokenCount;
        Assert.Equal(1, new PackedDataset(_file, tokens - 1, seed: 0).SamplesPerEpoch);
        TextFormatException error = Assert.Throws<TextFormatException>(() => new PackedDataset(_file, tokens, seed: 0));
        _output.WriteLine(error.Message);
        PackedDataset dataset = new(_file, 64, seed: 0);
        Assert.Throws<ArgumentException>(() => dataset.Fill(0, new int[64]));
        Assert.Throws<ArgumentOutOfRangeException>(() => dataset.Fill(-1, new int[65]));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(128)]
    [InlineData(1_000_000)]
    public void Validation_predicts_every_token_once_and_knows_its_bytes(int sequenceLength)
    {
        ValidationWindows windows = new(_file, sequenceLength);
        List<int> targets = [];
        List<int> inputs = [];
        int[] tokens = new int[sequenceLength + 1];
        for (long w = 0; w < windows.Count; w++)
        {
            int count = windows.Fill(w, tokens);
            inputs.AddRange(tokens.AsSpan(0, count));
            targets.AddRange(tokens.AsSpan(1, count));
            Assert.All(tokens[(count + 1)..], static id => Assert.Equal(ByteEncoder.Eos, id));
        }

        int[] all = TestDocuments.AllTokens(_file);
        Assert.Equal(all, targets);
        Assert.Equal([ByteEncoder.Eos, .. all[..^1]], inputs);
        Assert.Equal((all.Length, _file.Utf8Bytes), (windows.TokenCount, windows.Utf8Bytes));

        // A model that gives every byte 1/256 and every end token 1 needs exactly 8 bits a byte.
        Assert.Equal(8.0, windows.BitsPerByte(Math.Log(256) * _file.Utf8Bytes), 12);
    }

    [Fact]
    public void Validation_can_stop_early_at_a_documents_end()
    {
        ValidationWindows few = new(_file, 64, maximumTokens: 2000);
        _output.WriteLine($"{few.DocumentCount} documents, {few.TokenCount} tokens, {few.Utf8Bytes} bytes");
        Assert.InRange(few.TokenCount, 1, 2000);
        Assert.True(_file.DocumentStart(few.DocumentCount + 1) > 2000);
        Assert.Equal(few.TokenCount - few.DocumentCount, few.Utf8Bytes);
        Assert.Equal(1, new ValidationWindows(_file, 64, maximumTokens: 0).DocumentCount);
    }
}
