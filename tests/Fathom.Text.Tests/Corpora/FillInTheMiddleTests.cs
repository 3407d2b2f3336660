using System.Text;
using Fathom.Testing;
using Xunit;

namespace Fathom.Text.Tests.Corpora;

public sealed class FillInTheMiddleTests(ITestOutputHelper output)
{
    private static readonly ByteEncoder Encoder = new();

    [Fact]
    public void A_rearranged_document_has_the_papers_form_and_gives_the_text_back()
    {
        FillInTheMiddle fim = TestDocuments.Fim(rate: 1, seed: 9);
        List<Document> documents = TestDocuments.Make(2000);
        documents.Add(new Document("", "empty"));
        documents.Add(new Document("𝔽𝔽𝔽", "only surrogate pairs"));
        for (int i = 0; i < documents.Count; i++)
        {
            List<int> ids = [];
            Assert.True(fim.Encode(i, documents[i].Text, Encoder, ids));
            int hole = ids.IndexOf(ByteEncoder.FimHole), end = ids.IndexOf(ByteEncoder.FimEnd);
            Assert.Equal(ByteEncoder.FimBegin, ids[0]);
            Assert.True(0 < hole && hole < end);
            Assert.Equal(3, ids.Count(static id => id > 255));
            string prefix = ByteEncoder.Decode(ids[1..hole]), suffix = ByteEncoder.Decode(ids[(hole + 1)..end]), middle = ByteEncoder.Decode(ids[(end + 1)..]);
            Assert.Equal(documents[i].Text, prefix + middle + suffix);
            Assert.DoesNotContain('\uFFFD', prefix + middle + suffix);
        }
    }

    [Theory]
    [InlineData(0.0)]
    [InlineData(0.1)]
    [InlineData(0.5)]
    [InlineData(1.0)]
    public void The_rate_is_met_within_five_standard_deviations(double rate)
    {
        const int count = 20_000;
        FillInTheMiddle fim = TestDocuments.Fim(rate, seed: 4);
        int chosen = 0;
        double start = 0, end = 0;
        string text = new('x', 1000);
        for (int i = 0; i < count; i++)
        {
            if (!fim.TryCut(i, text, out int a, out int b)) continue;
            chosen++;
            start += a;
            end += b;
        }

        double deviation = Math.Sqrt(count * rate * (1 - rate));
        output.WriteLine($"rate {rate}: {chosen} of {count} rearranged, expected {count * rate} ± {deviation:f0}; mean cuts {start / chosen:f0} and {end / chosen:f0} of 1000");
        Assert.InRange(chosen, count * rate - 5 * deviation, count * rate + 5 * deviation);

        // Two uniform cuts in order lie at 1/3 and 2/3 on average, each with standard deviation 1/sqrt(18).
        if (chosen > 0)
        {
            double tolerance = 5 * 1000 / Math.Sqrt(18.0 * chosen);
            Assert.InRange(start / chosen, 333.3 - tolerance, 333.3 + tolerance);
            Assert.InRange(end / chosen, 666.7 - tolerance, 666.7 + tolerance);
        }
    }

    [Fact]
    public void In_a_token_file_the_documents_end_with_eos_and_can_be_restored()
    {
        using TemporaryFolder folder = new();
        List<Document> documents = TestDocuments.Make(300);
        using TokenFile file = TestDocuments.Build(folder.File("t.tok"), documents, Encoder, TestDocuments.Options(TestDocuments.Fim(0.5), ByteEncoder.Bos));
        int rearranged = 0;
        for (int i = 0; i < documents.Count; i++)
        {
            int[] ids = new int[file.DocumentTokens(i)];
            file.CopyTokens(file.DocumentStart(i), ids);
            Assert.Equal((ByteEncoder.Bos, ByteEncoder.Eos), (ids[0], ids[^1]));
            ids = ids[1..^1];
            if (ids[0] == ByteEncoder.FimBegin)
            {
                rearranged++;
                int hole = Array.IndexOf(ids, ByteEncoder.FimHole), end = Array.IndexOf(ids, ByteEncoder.FimEnd);
                ids = [.. ids[1..hole], .. ids[(end + 1)..], .. ids[(hole + 1)..end]];
            }

            Assert.Equal(documents[i].Text, ByteEncoder.Decode(ids));
            Assert.Equal(Encoding.UTF8.GetByteCount(documents[i].Text), file.DocumentUtf8Bytes(i));
        }

        output.WriteLine($"{rearranged} of {documents.Count} rearranged at rate 0.5");
        Assert.InRange(rearranged, 105, 195);
    }
}
