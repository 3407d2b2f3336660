using System.Globalization;
using Fathom.Numerics;
using Fathom.Text;

namespace Fathom.Training;

/// <summary>A run's documents, to be read several times in the same order.</summary>
internal sealed class DocumentSource
{
    private readonly Func<CorpusReport, IEnumerable<Document>> read;
    private readonly long? maxBytes;
    private CorpusReport report = new();

    private DocumentSource(string description, string fingerprint, long? maxBytes, Func<CorpusReport, IEnumerable<Document>> read)
    {
        Description = description;
        Fingerprint = string.Create(CultureInfo.InvariantCulture, $"{fingerprint} {maxBytes}");
        this.maxBytes = maxBytes;
        this.read = read;
    }

    public string Description { get; }

    public string Fingerprint { get; }

    /// <summary>What the last reading left out, as the end of a sentence; empty where that is nothing.</summary>
    public string Skipped
    {
        get
        {
            long skipped = report.SkippedEmpty + report.SkippedNotUtf8 + report.SkippedBadLines;
            return skipped == 0 ? "" : $"; skipped {report.SkippedEmpty:N0} empty, {report.SkippedNotUtf8:N0} not UTF-8, {report.SkippedBadLines:N0} bad lines";
        }
    }

    public static DocumentSource Open(DataConfig data)
    {
        if (data.Type == DataType.Text)
        {
            var options = new CorpusOptions { TextField = data.Field };
            return new DocumentSource(data.Path!, Corpus.Fingerprint(data.Path!, options), data.MaxBytes, r => Corpus.Read(data.Path!, options, r));
        }

        ReferencePackCorpus packs = ReferencePackCorpus.Find()
            ?? throw new FathomException("the SDK's reference packs were not found; give a file or folder of text (data.path, or --data)");

        // Parsing 70 MB of XML again for every pass would cost more than keeping its text.
        List<Document>? kept = null;
        return new DocumentSource("the .NET API documentation of the SDK", packs.Fingerprint(), data.MaxBytes, r => kept ??= [.. packs.Read(r)]);
    }

    public IEnumerable<Document> Read()
    {
        var fresh = new CorpusReport();
        long left = maxBytes ?? long.MaxValue;
        foreach (Document document in read(fresh))
        {
            yield return document;
            left -= System.Text.Encoding.UTF8.GetByteCount(document.Text);
            if (left <= 0) break;
        }

        report = fresh;
    }
}
