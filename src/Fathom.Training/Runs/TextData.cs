// From text to samples: documents, a held-out split, a tokenizer, and two token files in the run directory. This is done once: a run
// that goes on uses what it has, even if the text has changed or gone since, because its place in the data is a place in these files.
using System.Text.Json;
using Fathom.Model;
using Fathom.Numerics;
using Fathom.Text;

namespace Fathom.Training;

/// <summary>Told what the preparation of a run is doing.</summary>
/// <param name="Stage">What is being done.</param>
/// <param name="Detail">How far, or what came of it.</param>
public readonly record struct PreparationProgress(string Stage, string Detail);

/// <summary>The text of a run, tokenised.</summary>
public sealed class TextData : IDisposable
{
    private const long TokenizerBytes = 48 << 20;
    private const string TrainingPart = "train", HeldOutPart = "heldout";
    private static readonly JsonSerializerOptions Json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    private TextData(Tokenizer tokenizer, TokenFile training, TokenFile? heldOut, string source)
    {
        (Tokenizer, Training, HeldOut, Source) = (tokenizer, training, heldOut, source);
    }

    /// <summary>The run's tokenizer.</summary>
    public Tokenizer Tokenizer { get; }

    /// <summary>Tokens to train on.</summary>
    public TokenFile Training { get; }

    /// <summary>Tokens of held-out documents, or null where nothing is held out.</summary>
    public TokenFile? HeldOut { get; }

    /// <summary>What the text is, for a person.</summary>
    public string Source { get; }

    /// <summary>Reads, splits and tokenises the run's text, or opens what was made before.</summary>
    /// <param name="config">The run.</param>
    /// <param name="run">Its directory.</param>
    /// <param name="progress">Told what is going on.</param>
    /// <param name="cancellation">Stops between documents.</param>
    /// <exception cref="FathomException">There is no text.</exception>
    /// <exception cref="TextFormatException">A file is broken, or nothing usable is left.</exception>
    public static TextData Prepare(
        TrainingConfig config, RunDirectory run, Action<PreparationProgress>? progress = null, CancellationToken cancellation = default)
    {
        if (TryOpenPrepared(run) is { } prepared) return prepared;
        DocumentSource source = DocumentSource.Open(config.Data);
        Directory.CreateDirectory(run.DataFolder);
        progress?.Invoke(new("text", $"reading {source.Description}"));
        HeldOutSplit split = HeldOutSplit.Plan(source.Read(), new HeldOutSplitOptions { Fraction = config.Data.HeldOut, Seed = config.Seed });
        progress?.Invoke(new("text", $"{split.Documents:N0} documents, {split.Utf8Bytes / 1e6:N1} MB; {split.HeldOutUtf8Bytes / 1e3:N0} kB held out{source.Skipped}"));

        Tokenizer tokenizer = LoadOrTrain(config, run, source, split, progress, cancellation);
        FillInTheMiddle? fim = config.Data.FimRate > 0 && tokenizer is { FimBegin: { } begin, FimHole: { } hole, FimEnd: { } end }
            ? new FillInTheMiddle { Rate = config.Data.FimRate, Seed = config.Seed, BeginId = begin, HoleId = hole, EndId = end }
            : null;
        int eos = tokenizer.EosId ?? throw new FathomException("the tokenizer has no end-of-sequence token (eos_token); documents could not be told apart");

        TokenFile training = Tokenise(TrainingPart, split.Training(source.Read()), fim);
        TokenFile? heldOut = split.HeldOutDocuments > 0 ? Tokenise(HeldOutPart, split.HeldOut(source.Read()), null) : null;
        var summary = new Summary(source.Description, heldOut is not null);
        AtomicFile.WriteAllText(SummaryFile(run), JsonSerializer.Serialize(summary, Json) + "\n");
        return new TextData(tokenizer, training, heldOut, source.Description);

        TokenFile Tokenise(string part, IEnumerable<Document> documents, FillInTheMiddle? fillInTheMiddle)
        {
            var options = new TokenFileOptions
            {
                EosId = eos,
                BosId = tokenizer.AddsBos ? tokenizer.BosId : null,
                FillInTheMiddle = fillInTheMiddle,
                TokenizerKey = "the tokenizer of the run",
                CorpusKey = $"{source.Fingerprint} {part} {config.Data.HeldOut:R} {config.Seed}",
            };
            TokenFile file = TokenFileBuilder.Build(TokensOf(run, part), documents, tokenizer, options, cancellation: cancellation);
            progress?.Invoke(new("tokens", $"{part}: {file.TokenCount:N0} tokens, {(double)file.Utf8Bytes / file.TokenCount:F2} bytes a token"));
            return file;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Training.Dispose();
        HeldOut?.Dispose();
    }

    private static TextData? TryOpenPrepared(RunDirectory run)
    {
        if (!File.Exists(SummaryFile(run))) return null;
        Summary summary;
        try
        {
            summary = JsonSerializer.Deserialize<Summary>(File.ReadAllText(SummaryFile(run)), Json) ?? throw new JsonException("it is null");
        }
        catch (JsonException e)
        {
            throw new FathomException($"{SummaryFile(run)} is broken ({e.Message}); delete {run.DataFolder} to prepare the text again", e);
        }

        return new TextData(
            Tokenizer.Load(run.TokenizerFolder), TokenFile.Open(TokensOf(run, TrainingPart)),
            summary.HeldOut ? TokenFile.Open(TokensOf(run, HeldOutPart)) : null, summary.Source);
    }

    private static string SummaryFile(RunDirectory run) => Path.Combine(run.DataFolder, "prepared.json");

    private static string TokensOf(RunDirectory run, string part) => Path.Combine(run.DataFolder, part + ".tokens");

    private static Tokenizer LoadOrTrain(
        TrainingConfig config, RunDirectory run, DocumentSource source, HeldOutSplit split,
        Action<PreparationProgress>? progress, CancellationToken cancellation)
    {
        if (File.Exists(Path.Combine(run.TokenizerFolder, "tokenizer.json"))) return Tokenizer.Load(run.TokenizerFolder);
        Tokenizer tokenizer;
        if (config.Tokenizer.Path is { } path)
        {
            tokenizer = Tokenizer.Load(path);
        }
        else
        {
            progress?.Invoke(new("tokenizer", $"training {config.Tokenizer.VocabSize:N0} tokens"));
            IEnumerable<string> texts = Limit(split.Training(source.Read()), TokenizerBytes).Select(d => d.Text);
            var options = new BpeTrainerOptions { VocabularySize = config.Tokenizer.VocabSize };
            tokenizer = BpeTrainer.Train(texts, options, cancellation: cancellation);
        }

        tokenizer.Save(run.TokenizerFolder, tokenizer.ChatTemplate ?? ChatTemplate.DeepSeekV3.Source);
        return tokenizer;
    }

    private static IEnumerable<Document> Limit(IEnumerable<Document> documents, long bytes)
    {
        foreach (Document document in documents)
        {
            yield return document;
            bytes -= document.Text.Length;
            if (bytes <= 0) yield break;
        }
    }

    /// <summary>Written last: the text is prepared.</summary>
    private sealed record Summary(string Source, bool HeldOut);
}
