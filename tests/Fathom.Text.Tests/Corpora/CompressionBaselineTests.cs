using System.IO.Compression;
using System.Text;
using Fathom.Testing;
using Xunit;

namespace Fathom.Text.Tests.Corpora;

public sealed class CompressionBaselineTests(ITestOutputHelper output)
{
    [Fact]
    public void The_sizes_are_those_of_the_whole_text_compressed_at_once()
    {
        List<Document> documents = TestDocuments.Make(3000);
        CompressionBaseline baseline = CompressionBaseline.Measure(documents);
        byte[] whole = Encoding.UTF8.GetBytes(string.Concat(documents.Select(static d => d.Text)));
        byte[] buffer = new byte[whole.Length];
        Assert.True(BrotliEncoder.TryCompress(whole, buffer, out int brotli, 11, 24));
        using MemoryStream stream = new();
        using (GZipStream gzip = new(stream, CompressionLevel.SmallestSize, leaveOpen: true)) gzip.Write(whole);
        output.WriteLine($"{baseline}; whole text: gzip {stream.Length}, Brotli {brotli}");
        Assert.Equal(whole.Length, baseline.Utf8Bytes);

        // Feeding in pieces may end a block elsewhere than feeding at once: the sizes agree closely, not to the byte.
        Assert.InRange((double)baseline.GzipBytes / stream.Length, 0.99, 1.01);
        Assert.InRange((double)baseline.BrotliBytes / brotli, 0.97, 1.03);
    }

    [Fact]
    public void Tinyshakespeare_has_its_known_compressed_sizes()
    {
        string path = Golden.Shared("corpus", "tinyshakespeare", "input.txt");
        CompressionBaseline baseline = CompressionBaseline.Measure(Corpus.Read(path));
        output.WriteLine($"{baseline.Utf8Bytes} bytes: gzip {baseline.GzipBitsPerByte:f4} bits a byte, Brotli {baseline.BrotliBitsPerByte:f4}");
        Assert.InRange(baseline.GzipBitsPerByte, 3.1, 3.4);
        Assert.InRange(baseline.BrotliBitsPerByte, 2.5, 2.9);
    }

    [Fact]
    public void Nothing_cannot_be_measured() =>
        Assert.Throws<TextFormatException>(() => CompressionBaseline.Measure([]));
}
