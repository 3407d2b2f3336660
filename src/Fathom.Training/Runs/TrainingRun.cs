// A run from start to end: data, trainer, checkpoints, metrics, validation, export. It tells an observer what happens and knows
// nothing of terminals.
using Fathom.Compute;
using Fathom.Model;
using Fathom.Numerics;
using Fathom.Text;

namespace Fathom.Training;

/// <summary>Follows a run. Every call comes from the training thread.</summary>
public interface IRunObserver
{
    /// <summary>Text is being read, a tokenizer trained.</summary>
    void Preparing(PreparationProgress progress);

    /// <summary>The model is built and training starts, or goes on.</summary>
    /// <param name="run">The run.</param>
    /// <param name="restoredFrom">The checkpoint it goes on from, or null.</param>
    void Starting(TrainingRun run, string? restoredFrom);

    /// <summary>A step is done. The report is overwritten by the next.</summary>
    void Stepped(StepReport report);

    /// <summary>The held-out text was evaluated.</summary>
    void Validated(long step, ValidationReport report);

    /// <summary>A checkpoint was saved.</summary>
    void Saved(long step, string folder);

    /// <summary>Something a person should know, and the run goes on.</summary>
    void Warning(string message);
}

/// <summary>A training run in its directory.</summary>
public sealed class TrainingRun : IDisposable
{
    private const int MostPeakMeasurements = 5;

    private readonly IRunObserver observer;
    private readonly CheckpointStore checkpoints;
    private readonly ValidationWindows? windows;
    private readonly TextData? text;
    private int peakMeasurements;

    private TrainingRun(Device device, RunDirectory directory, TrainingConfig config, IRunObserver observer, CancellationToken cancellation)
    {
        (Directory, this.observer) = (directory, observer);
        Config = config;
        ModelConfig model = ResolveModel(config);
        ITokenBatches data;
        if (config.Data.Type == DataType.Batches)
        {
            var batches = new FixedBatches(config.Data.File!, config.Data.Tensor!, model.VocabSize);
            data = batches;
            int micro = Math.Min(config.MicroBatch, batches.BatchSize);
            if (batches.BatchSize % micro != 0)
                throw new FathomException($"training configuration: micro_batch {micro} does not divide the {batches.BatchSize} sequences of a batch in {config.Data.File}");
            Config = config with
            {
                MicroBatch = micro,
                SequenceLength = batches.SequenceLength,
                BatchSize = Schedule.Constant(batches.BatchSize),
                Steps = config.Steps ?? batches.Steps,
            };
        }
        else
        {
            text = TextData.Prepare(config, directory, observer.Preparing, cancellation);
            model = model with { VocabSize = VocabularyFor(model, text.Tokenizer, config) };
            model = model with { BosTokenId = text.Tokenizer.BosId, EosTokenIds = [text.Tokenizer.EosId!.Value], PadTokenId = text.Tokenizer.PadId };
            data = new PackedDataset(text.Training, config.SequenceLength, config.Seed);
            if (text.HeldOut is { } heldOut)
                windows = new ValidationWindows(heldOut, config.SequenceLength, (long)config.ValidationSequences * config.SequenceLength);
        }

        if (Config.SequenceLength > model.MaxPositionEmbeddings)
            throw new FathomException($"training configuration: sequence_length {Config.SequenceLength} is beyond the model's max_position_embeddings {model.MaxPositionEmbeddings}");
        Trainer = new Trainer(device, model, Config, data);
        checkpoints = new CheckpointStore(directory, config.KeepCheckpoints);
    }

    /// <summary>The run's directory.</summary>
    public RunDirectory Directory { get; }

    /// <summary>The run's configuration, with what the data decided filled in.</summary>
    public TrainingConfig Config { get; }

    /// <summary>The model in training.</summary>
    public Trainer Trainer { get; }

    /// <summary>The run's tokenizer, or null with ready batches.</summary>
    public Tokenizer? Tokenizer => text?.Tokenizer;

    /// <summary>The run's text, or null with ready batches.</summary>
    public TextData? Text => text;

    /// <summary>Training FLOPs of a token: the main model's and its MTP modules', no recomputation counted.</summary>
    public double FlopsPerToken
    {
        get
        {
            var size = new ModelSize(Trainer.Model.Config);
            return size.TrainingFlopsPerToken(Config.SequenceLength) + size.MtpTrainingFlopsPerToken(Config.SequenceLength);
        }
    }

    /// <summary>Measures the machine's peak in FLOP/s, for the share in the metrics; without it there is none.</summary>
    public Func<double>? MeasurePeak { get; set; }

    /// <summary>The machine's peak in FLOP/s; 0 where it was not measured.</summary>
    public double PeakFlops { get; private set; }

    /// <summary>Starts a new run.</summary>
    /// <exception cref="FathomException">The configuration, data or directory is wrong.</exception>
    public static TrainingRun Start(Device device, string path, TrainingConfig config, IRunObserver observer, CancellationToken cancellation = default)
    {
        config.Validate();
        _ = ResolveModel(config);
        RunDirectory directory = RunDirectory.Create(path, config);
        TrainingRun run;
        try
        {
            run = new TrainingRun(device, directory, config, observer, cancellation);
            if (config.InitFrom is { } folder) run.LoadWeights(folder);
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            directory.Discard();
            throw;
        }

        observer.Starting(run, null);
        return run;
    }

    /// <summary>Goes on with a run from its newest whole checkpoint, or from its start where it has none.</summary>
    /// <param name="device">Where to train.</param>
    /// <param name="path">The run's directory.</param>
    /// <param name="change">Changes the end of the run (more steps), or null.</param>
    /// <param name="observer">Follows the run.</param>
    /// <param name="cancellation">Stops the preparation.</param>
    public static TrainingRun Resume(
        Device device, string path, Func<TrainingConfig, TrainingConfig>? change, IRunObserver observer, CancellationToken cancellation = default)
    {
        RunDirectory directory = RunDirectory.Open(path);
        TrainingConfig config = directory.LoadConfig();
        if (change is not null)
        {
            config = change(config);
            config.Validate();
            directory.SaveConfig(config);
        }

        var run = new TrainingRun(device, directory, config, observer, cancellation);
        string? restored = run.checkpoints.RestoreNewest(run.Trainer, observer.Warning);
        if (restored is null && config.InitFrom is { } folder) run.LoadWeights(folder);

        observer.Starting(run, restored);
        return run;
    }

    /// <summary>Trains to the end, or until asked to stop: then the step in progress is finished and saved.</summary>
    /// <returns>Whether the run reached its end.</returns>
    /// <exception cref="NonFiniteLossException">Training diverged; the last checkpoint is kept.</exception>
    /// <exception cref="FathomException">A checkpoint could not be saved.</exception>
    public bool Train(CancellationToken stop)
    {
        using var metrics = new MetricsLog(Directory.MetricsFile, Trainer.State.Step);
        try
        {
            Train(metrics, stop);
        }
        catch (Exception error)
        {
            End(metrics, error is NonFiniteLossException ? RunEnd.Diverged : RunEnd.Failed, error.Message);
            throw;
        }

        End(metrics, Trainer.IsFinished ? RunEnd.Finished : RunEnd.Stopped, null);
        return Trainer.IsFinished;
    }

    private void End(MetricsLog metrics, RunEnd end, string? reason)
    {
        try
        {
            metrics.End(Trainer.State.Step, end, reason);
        }
        catch (IOException)
        {
            // A disk that is full hides neither why training ended nor what has been saved.
        }
    }

    private void Train(MetricsLog metrics, CancellationToken stop)
    {
        int[] expertLayers = [.. Trainer.Model.ExpertLayers.Select(block => block.Layer)];
        long lastValidated = -1, lastSaved = Trainer.State.Step;
        while (!Trainer.IsFinished && !stop.IsCancellationRequested)
        {
            StepReport report = Trainer.Step();
            metrics.Step(report, ShareOfPeak(report), Environment.WorkingSet);
            if (Due(Trainer.ExpertLoadEvery, report.Step) || (Trainer.ExpertLoadEvery > 0 && Trainer.IsFinished)) metrics.ExpertLoad(report, expertLayers);
            observer.Stepped(report);
            if (Due(Config.ValidateEvery, report.Step)) Validate(metrics, ref lastValidated);
            if (Due(Config.SaveEvery, report.Step)) Save(ref lastSaved);
        }

        if (lastValidated != Trainer.State.Step && Trainer.IsFinished) Validate(metrics, ref lastValidated);
        if (lastSaved != Trainer.State.Step) Save(ref lastSaved);
    }

    // A step above the peak shows that something disturbed the measurement.
    private double ShareOfPeak(StepReport report)
    {
        if (MeasurePeak is not { } measure) return 0;
        double rate = FlopsPerToken * report.StepTokens / report.Seconds;
        for (; rate > PeakFlops && peakMeasurements < MostPeakMeasurements; peakMeasurements++) PeakFlops = Math.Max(PeakFlops, measure());
        return rate / PeakFlops;
    }

    /// <summary>Writes the model as it stands to model/, in BF16.</summary>
    /// <returns>The folder.</returns>
    public string Export()
    {
        System.IO.Directory.CreateDirectory(Directory.ModelFolder);
        ModelConfig config = Trainer.Model.Config with { Dtype = DType.BF16 };
        ModelFolder.Write(Directory.ModelFolder, config, Trainer.Parameters, DType.BF16, text is null ? null : Directory.TokenizerFolder);
        return Directory.ModelFolder;
    }

    /// <summary>Evaluates the held-out text; null where nothing is held out.</summary>
    public ValidationReport? Validate() => windows is null ? null : Trainer.Validate(windows);

    /// <inheritdoc/>
    public void Dispose()
    {
        Trainer.Dispose();
        text?.Dispose();
    }

    private void LoadWeights(string folder)
    {
        using Checkpoint checkpoint = Checkpoint.Open(folder);
        Trainer.Parameters.Load(checkpoint, ModelConfig.Load(folder));
        Trainer.Ema?.Restart();
    }

    private static bool Due(long every, long step) => every > 0 && step % every == 0;

    private void Validate(MetricsLog metrics, ref long last)
    {
        last = Trainer.State.Step;
        if (Validate() is not { } report) return;
        metrics.Validation(last, report);
        observer.Validated(last, report);
    }

    private void Save(ref long last)
    {
        last = Trainer.State.Step;
        observer.Saved(last, checkpoints.Save(Trainer));
    }

    /// <summary>The model that a configuration names, holds, or starts from; its vocabulary may still become that of the run's tokenizer.</summary>
    /// <exception cref="FathomException">The model is unknown or wrong.</exception>
    public static ModelConfig ResolveModel(TrainingConfig config)
    {
        if (config.Model is null) return ModelConfig.Load(config.InitFrom!);
        return config.Model.GetValueKind() == System.Text.Json.JsonValueKind.String
            ? ModelPresets.Get(config.Model.GetValue<string>())
            : ModelConfig.Parse(config.Model.ToJsonString(), "training configuration, model");
    }

    private static int VocabularyFor(ModelConfig model, Tokenizer tokenizer, TrainingConfig config)
    {
        if (config.InitFrom is null) return tokenizer.VocabularySize;
        if (tokenizer.VocabularySize > model.VocabSize)
            throw new FathomException($"the tokenizer has {tokenizer.VocabularySize} tokens, the model of {config.InitFrom} only {model.VocabSize}; give the model's own tokenizer");
        return model.VocabSize;
    }
}
