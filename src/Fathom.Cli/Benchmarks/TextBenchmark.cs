// Tokenising on one core and training a tokenizer. Real text: the reference corpora beside the repository where they are, else the
// documentation of the SDK.
using System.Text;
using Fathom.Numerics;
using Fathom.Text;

namespace Fathom.Cli.Benchmarks;

/// <summary>Speeds of the tokenizer.</summary>
internal static class TextBenchmark
{
    private const int TrainedVocabulary = 8192;
    private const long QuickBytes = 4_000_000;

    /// <summary>Rows for tokenising and for training a vocabulary.</summary>
    public static IEnumerable<BenchmarkRow> Run(Sampling sampling)
    {
        (string source, List<string> texts) = ReadTexts(sampling.Quick ? QuickBytes : long.MaxValue);
        long bytes = texts.Sum(text => (long)Encoding.UTF8.GetByteCount(text));
        Tokenizer? trained = null;
        double seconds = Sampling.Seconds(() => trained = BpeTrainer.Train(texts, new BpeTrainerOptions { VocabularySize = TrainedVocabulary }), 1);
        yield return new BenchmarkRow($"training {TrainedVocabulary:N0} tokens on {bytes / 1e6:N0} MB", seconds, "s", new Goal(60, AtLeast: false, "≤ 60 s")) { Note = source };

        string? folder = Shared("tokenizer");
        Tokenizer tokenizer = folder is null ? trained! : Tokenizer.Load(folder);
        List<string> some = [.. TakeBytes(texts, QuickBytes)];
        long someBytes = some.Sum(text => (long)Encoding.UTF8.GetByteCount(text));
        var ids = new List<int>();
        Tokenise();
        double rate = someBytes / 1e6 / sampling.BestSeconds(Tokenise);
        yield return new BenchmarkRow("tokenising, one core", rate, "MB/s", new Goal(5, AtLeast: true, "≥ 5 MB/s"))
        {
            Note = folder is null ? "trained tokenizer" : "DeepSeek's tokenizer",
        };

        void Tokenise()
        {
            foreach (string text in some)
            {
                ids.Clear();
                tokenizer.Encode(text, ids);
            }
        }
    }

    private static (string Source, List<string> Texts) ReadTexts(long limit)
    {
        if (Shared("corpus", "classic-books", "train.jsonl.gz") is { } books)
            return (Path.GetFileName(books), [.. TakeBytes(Corpus.Read(books).Select(d => d.Text), limit)]);
        ReferencePackCorpus packs = ReferencePackCorpus.Find()
            ?? throw new FathomException("bench: neither ../shared/corpus nor the SDK's reference packs were found to tokenise");
        return ("the SDK's API documentation", [.. TakeBytes(packs.Read().Select(d => d.Text), limit)]);
    }

    private static IEnumerable<string> TakeBytes(IEnumerable<string> texts, long bytes)
    {
        foreach (string text in texts)
        {
            yield return text;
            bytes -= text.Length;
            if (bytes <= 0) yield break;
        }
    }

    /// <summary>A path below ../shared of the repository that this program was built in; null where it is absent.</summary>
    private static string? Shared(params string[] parts)
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (!File.Exists(Path.Combine(folder.FullName, "Fathom.slnx"))) continue;
            string path = Path.GetFullPath(Path.Combine([folder.FullName, "..", "shared", .. parts]));
            return Path.Exists(path) ? path : null;
        }

        return null;
    }
}
