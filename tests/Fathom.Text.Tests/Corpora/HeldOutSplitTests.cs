using System.Text;
using Xunit;

namespace Fathom.Text.Tests.Corpora;

public sealed class HeldOutSplitTests(ITestOutputHelper output)
{
    [Fact]
    public void The_parts_are_the_corpus_and_share_nothing()
    {
        List<Document> documents = TestDocuments.Make(1000);
        HeldOutSplit split = HeldOutSplit.Plan(documents, new HeldOutSplitOptions { Fraction = 0.1, Seed = 5 });
        List<Document> training = [.. split.Training(documents)];
        List<Document> heldOut = [.. split.HeldOut(documents)];
        output.WriteLine($"{heldOut.Count} of {documents.Count} held out, {split.HeldOutUtf8Bytes} of {split.Utf8Bytes} bytes");
        Assert.Equal(100, heldOut.Count);
        Assert.Equal(900, training.Count);
        Assert.Equal(documents.ToHashSet(), training.Concat(heldOut).ToHashSet());
        Assert.Equal(heldOut.Sum(static d => (long)Encoding.UTF8.GetByteCount(d.Text)), split.HeldOutUtf8Bytes);
        Assert.Equal(documents.Sum(static d => (long)Encoding.UTF8.GetByteCount(d.Text)), split.Utf8Bytes);
    }

    [Fact]
    public void The_seed_fixes_the_choice_and_more_keeps_what_was_chosen()
    {
        List<Document> documents = TestDocuments.Make(500);
        HashSet<long> Chosen(double fraction, ulong seed)
        {
            HeldOutSplit split = HeldOutSplit.Plan(documents, new HeldOutSplitOptions { Fraction = fraction, Seed = seed });
            return [.. Enumerable.Range(0, 500).Select(static i => (long)i).Where(split.IsHeldOut)];
        }

        Assert.Equal(Chosen(0.05, 1), Chosen(0.05, 1));
        Assert.NotEqual(Chosen(0.05, 1), Chosen(0.05, 2));
        Assert.Subset(Chosen(0.2, 1), Chosen(0.05, 1));

        // Spread over the corpus, not gathered at one end: the mean index of 100 of 500 has a standard deviation near 13.
        double mean = Chosen(0.2, 1).Average();
        output.WriteLine($"mean index of the held-out documents {mean:f1}, expected near 249.5");
        Assert.InRange(mean, 200, 300);
    }

    [Fact]
    public void At_least_one_and_not_more_than_the_bytes_allow()
    {
        List<Document> documents = TestDocuments.Make(50);
        Assert.Equal(1, HeldOutSplit.Plan(documents, new HeldOutSplitOptions { Fraction = 0.001 }).HeldOutDocuments);
        Assert.Equal(1, HeldOutSplit.Plan(documents, new HeldOutSplitOptions { Fraction = 0.5, MaximumBytes = 1 }).HeldOutDocuments);
        HeldOutSplit limited = HeldOutSplit.Plan(documents, new HeldOutSplitOptions { Fraction = 0.9, MaximumBytes = 3000 });
        Assert.InRange(limited.HeldOutUtf8Bytes, 1, 3000);
        Assert.InRange(limited.HeldOutDocuments, 2, 44);
        Assert.Equal(0, HeldOutSplit.Plan(documents, new HeldOutSplitOptions { Fraction = 0 }).HeldOutDocuments);
    }

    [Fact]
    public void A_split_that_leaves_nothing_or_fits_another_corpus_is_refused()
    {
        List<Document> documents = TestDocuments.Make(10);
        foreach (double fraction in new[] { -0.1, 1, double.NaN })
            Assert.Throws<TextFormatException>(() => HeldOutSplit.Plan(documents, new HeldOutSplitOptions { Fraction = fraction }));
        TextFormatException one = Assert.Throws<TextFormatException>(() => HeldOutSplit.Plan(documents[..1]));
        output.WriteLine(one.Message);
        TextFormatException other = Assert.Throws<TextFormatException>(() => HeldOutSplit.Plan(documents).Training(documents[..9]).ToList());
        output.WriteLine(other.Message);
    }
}
