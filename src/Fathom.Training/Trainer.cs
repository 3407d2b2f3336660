// The training step: micro-batches forward and backward, gradient norm, clipping, AdamW, routing bias. Everything a step depends on
// is the configuration, the weights and moments, and a few counters; nothing is drawn from a generator with hidden state, so a run
// that goes on from a checkpoint repeats the bits of the one that was never stopped.
// A device that works beside the processor is asked for all forward and backward passes of a step before anything is waited for: the
// gradient norm decides the clipping, and losses, loads and faults come with it.
using System.Diagnostics;
using Fathom.Compute;
using Fathom.Model;
using Fathom.Text;

namespace Fathom.Training;

/// <summary>The counters of a run: with weights and moments, all of its state.</summary>
public readonly record struct TrainerState
{
    /// <summary>Finished steps.</summary>
    public long Step { get; init; }

    /// <summary>Trained tokens.</summary>
    public long Tokens { get; init; }

    /// <summary>The next sample of the data: the exact position, shuffling and epochs included.</summary>
    public long NextSample { get; init; }

    /// <summary>Seconds of training so far, for runs that are bounded by time.</summary>
    public double Seconds { get; init; }
}

/// <summary>What one step reports. The arrays belong to the trainer and are overwritten by the next step.</summary>
public sealed class StepReport
{
    internal StepReport(int mtpModules, int expertLayers)
    {
        MtpLoss = new double[mtpModules];
        MtpAccuracy = new double[mtpModules];
        LoadImbalance = new double[expertLayers];
    }

    /// <summary>Number of the step, from 1.</summary>
    public long Step { get; internal set; }

    /// <summary>Tokens trained by all steps so far.</summary>
    public long Tokens { get; internal set; }

    /// <summary>Tokens of this step.</summary>
    public long StepTokens { get; internal set; }

    /// <summary>Mean cross-entropy of the next token, in nats.</summary>
    public double Loss { get; internal set; }

    /// <summary>Cross-entropy of each MTP depth, divided by T as in [P] eq. 24.</summary>
    public double[] MtpLoss { get; }

    /// <summary>Share of positions where a depth's most likely token was right.</summary>
    public double[] MtpAccuracy { get; }

    /// <summary>Balance loss: sum over expert layers of the mean over sequences, without alpha.</summary>
    public double BalanceLoss { get; internal set; }

    /// <summary>What is minimised: loss + λ/D Σ MTP + α balance.</summary>
    public double TotalLoss { get; internal set; }

    /// <summary>Norm of all gradients before clipping.</summary>
    public double GradientNorm { get; internal set; }

    /// <summary>Learning rate of the step.</summary>
    public double LearningRate { get; internal set; }

    /// <summary>Wall-clock seconds of the step.</summary>
    public double Seconds { get; internal set; }

    /// <summary>Largest over mean load of each expert layer.</summary>
    public double[] LoadImbalance { get; }
}

/// <summary>The loss on held-out text.</summary>
/// <param name="Loss">Mean cross-entropy of a token, in nats.</param>
/// <param name="BitsPerByte">The same in bits a byte of text; NaN where the data is ids without text.</param>
/// <param name="Tokens">Tokens predicted.</param>
public readonly record struct ValidationReport(double Loss, double BitsPerByte, long Tokens);

/// <summary>A model in training.</summary>
public sealed class Trainer : IDisposable
{
    private readonly TrainingConfig config;
    private readonly ITokenBatches data;
    private readonly MicroBatch micro;
    private readonly TrainingPasses passes;
    private readonly int[] tokens;
    private readonly StepReport report;
    private MicroBatch? validation;
    private int[] validationTokens = [];

    /// <summary>Builds the model with fresh weights and everything a step needs.</summary>
    /// <param name="device">Where to train.</param>
    /// <param name="model">The model's configuration.</param>
    /// <param name="config">The run's configuration.</param>
    /// <param name="data">The samples.</param>
    public Trainer(Device device, ModelConfig model, TrainingConfig config, ITokenBatches data)
    {
        (this.config, this.data) = (config, data);
        Parameters = new ParameterSet(device);
        Model = new DeepSeekModel(device, model, Parameters);
        Parameters.Initialize(config.Seed, (float)model.InitializerRange);
        Parameters.AllocateGradients();
        Parameters.AllocateOperands(config.Recipe);
        Optimizer = new AdamW(device, Parameters.All, config.Optimizer, config.Recipe.OptimizerMoments);
        Ema = config.Ema is { } ema ? new ExponentialMovingAverage(device, Parameters.All, ema) : null;
        micro = new MicroBatch(Model, config.MicroBatch, data.SequenceLength, training: true, config.Recipe);
        passes = new TrainingPasses(Model, micro, Parameters.All, () => Ema?.Wait());
        tokens = new int[config.MicroBatch * (data.SequenceLength + 1)];
        report = new StepReport(Model.MtpModules.Count, Model.ExpertLayers.Count);
    }

    /// <summary>The model.</summary>
    public DeepSeekModel Model { get; }

    /// <summary>Its weights.</summary>
    public ParameterSet Parameters { get; }

    /// <summary>The optimizer and its moments.</summary>
    public AdamW Optimizer { get; }

    /// <summary>The moving average of the weights, or null where the configuration has none.</summary>
    public ExponentialMovingAverage? Ema { get; }

    /// <summary>Where the run stands.</summary>
    public TrainerState State { get; set; }

    /// <summary>Share of the run that is done: of its steps, tokens or seconds, whichever is furthest.</summary>
    public double Progress => Math.Max(
        Math.Max(config.Steps is { } steps ? State.Step / Math.Max(1.0, steps) : 0, config.Tokens is { } count ? (double)State.Tokens / count : 0),
        config.Seconds is { } seconds ? State.Seconds / seconds : 0);

    /// <summary>Whether the run has reached its end.</summary>
    public bool IsFinished => config.Steps is 0 || Progress >= 1;

    /// <summary>What the layers were given with the last micro-batch; its counters say what a step takes.</summary>
    internal LayerContext Context => micro.Context;

    /// <summary>Passes that the device replayed instead of being asked for every operator.</summary>
    internal long ReplayedPasses => passes.Replays;

    /// <summary>Called when a step's gradients and loads are complete and nothing has been changed yet; tests look at them.</summary>
    internal Action? BeforeUpdate { get; set; }

    /// <summary>Trains one step. The report is overwritten by the next.</summary>
    /// <exception cref="NonFiniteLossException">The loss or a gradient is not finite; no weight has been changed.</exception>
    public StepReport Step()
    {
        long started = Stopwatch.GetTimestamp();
        var position = new RunPosition(State.Step, State.Tokens, Progress);
        int microBatches = (int)Math.Max(1, Math.Ceiling(config.BatchSize.At(position) / config.MicroBatch));
        var weights = new LossWeights(microBatches, (float)config.MtpWeight.At(position), config.BalanceAlpha);
        report.Step = State.Step + 1;
        ClearLosses();
        Parameters.RefreshOperands();
        micro.Context.Faults.Forget();
        micro.Reserve(microBatches);
        for (int m = 0; m < microBatches; m++)
        {
            micro.Pass = m;
            Fill(State.NextSample + (long)m * micro.Batch);
            passes.ForwardBackward(weights);
        }

        report.GradientNorm = Optimizer.GradientNorm();
        Parameters.CheckOperands();
        AddLosses(microBatches);
        report.TotalLoss = report.Loss + weights.Balance * report.BalanceLoss;
        foreach (double loss in report.MtpLoss) report.TotalLoss += weights.Mtp / report.MtpLoss.Length * loss;
        if (!double.IsFinite(report.TotalLoss) || !double.IsFinite(report.GradientNorm))
            throw new NonFiniteLossException(report.Step, report.TotalLoss, Model.FirstNonFinite(micro) ?? FirstNonFiniteGradient());

        BeforeUpdate?.Invoke();
        Ema?.Wait();
        report.LearningRate = config.LearningRate.At(position);
        Optimizer.Step(report.LearningRate, report.GradientNorm, report.Step);
        Parameters.MarkChanged();
        BalanceExperts((float)config.BiasUpdateSpeed.At(position));
        Ema?.Begin(report.Step);

        report.StepTokens = (long)microBatches * micro.Batch * micro.Tokens;
        report.Seconds = Stopwatch.GetElapsedTime(started).TotalSeconds;
        report.Tokens = State.Tokens + report.StepTokens;
        State = new TrainerState
        {
            Step = report.Step,
            Tokens = report.Tokens,
            NextSample = State.NextSample + (long)microBatches * micro.Batch,
            Seconds = State.Seconds + report.Seconds,
        };
        return report;
    }

    /// <summary>Cross-entropy and bits per byte over held-out windows, some of them where there are more.</summary>
    /// <param name="windows">The held-out text.</param>
    public ValidationReport Validate(ValidationWindows windows)
    {
        EnsureValidation();
        Parameters.RefreshOperands();
        int length = windows.SequenceLength;
        double nats = 0;
        Span<int> counted = stackalloc int[validation!.Batch];
        for (long first = 0; first < windows.Count; first += validation.Batch)
        {
            for (int b = 0; b < validation.Batch; b++)
            {
                Span<int> sequence = validationTokens.AsSpan(b * (length + 1), length + 1);
                long window = first + b;
                counted[b] = 0;
                if (window < windows.Count) counted[b] = windows.Fill(window, sequence);
                else sequence.Clear();
            }

            validation.Load(validationTokens);
            Model.Evaluate(validation);
            validation.Pull();
            ReadOnlySpan<float> losses = validation.Depths[0].HostLosses;
            for (int b = 0; b < validation.Batch; b++)
            {
                foreach (float loss in losses.Slice(b * length, counted[b])) nats += loss;
            }
        }

        Parameters.CheckOperands();
        Model.ClearLoads();
        return new ValidationReport(nats / windows.TokenCount, windows.BitsPerByte(nats), windows.TokenCount);
    }

    /// <summary>Ends the thread of the moving average.</summary>
    public void Dispose() => Ema?.Dispose();

    private void EnsureValidation()
    {
        if (validation is not null) return;
        validation = new MicroBatch(Model, config.MicroBatch, data.SequenceLength, training: false, config.Recipe);
        validationTokens = new int[config.MicroBatch * (data.SequenceLength + 1)];
    }

    private void Fill(long sample)
    {
        int length = data.SequenceLength + 1;
        for (int b = 0; b < micro.Batch; b++) data.Fill(sample + b, tokens.AsSpan(b * length, length));
        micro.Load(tokens);
    }

    private void ClearLosses()
    {
        (report.Loss, report.BalanceLoss) = (0, 0);
        Array.Clear(report.MtpLoss);
        Array.Clear(report.MtpAccuracy);
    }

    private void AddLosses(int microBatches)
    {
        micro.Pull();
        for (int m = 0; m < microBatches; m++)
        {
            micro.Pass = m;
            report.Loss += micro.Depths[0].MeanLoss() / microBatches;
            for (int k = 0; k < report.MtpLoss.Length; k++)
            {
                report.MtpLoss[k] += micro.Depths[k + 1].MeanLoss() / microBatches;
                report.MtpAccuracy[k] += micro.Depths[k + 1].Accuracy() / microBatches;
            }

            report.BalanceLoss += micro.BalanceLoss() / microBatches;
        }

        Model.PullLoads();
        for (int l = 0; l < report.LoadImbalance.Length; l++)
        {
            ReadOnlySpan<long> loads = Model.LoadsOf(l);
            long largest = 0, total = 0;
            foreach (long load in loads) (largest, total) = (Math.Max(largest, load), total + load);
            report.LoadImbalance[l] = (double)largest * loads.Length / total;
        }
    }

    private void BalanceExperts(float speed)
    {
        for (int l = 0; l < Model.ExpertLayers.Count; l++)
        {
            MixtureOfExperts experts = Model.ExpertLayers[l].Experts!;
            if (experts.Bias is { } bias && speed != 0) Model.Device.Routing.UpdateBias(bias.Value, experts.Load, speed);
        }

        Model.ClearLoads();
    }

    private string FirstNonFiniteGradient()
    {
        // The backward pass runs from the last layer to the first, so the last parameter that is hit was hit first.
        for (int i = Parameters.All.Count - 1; i >= 0; i--)
        {
            Parameter parameter = Parameters.All[i];
            if (!parameter.Gradient.IsEmpty && !Model.Device.Reduction.AllFinite(parameter.Gradient)) return $"the gradient of {parameter.Name}";
        }

        return "the sum of the gradients' squares";
    }
}
