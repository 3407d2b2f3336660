// A number that changes during training: learning rate, batch size, the routing bias's speed, the MTP weight. It is a row of
// segments, each lasting until a step, a number of tokens or a share of the whole run, as the paper gives them (§4.2: 2,000 steps
// of warm-up, constant until 10 T tokens, cosine over 4.3 T, two constants).
using System.Text.Json.Serialization;
using Fathom.Numerics;

namespace Fathom.Training;

/// <summary>How a segment goes from its first value to its last.</summary>
public enum SegmentShape
{
    /// <summary>One value.</summary>
    Constant,

    /// <summary>A straight line.</summary>
    Linear,

    /// <summary>Half a cosine, flat at both ends.</summary>
    Cosine,
}

/// <summary>Where a run stands: the counters that schedules look at.</summary>
/// <param name="Step">Finished steps.</param>
/// <param name="Tokens">Trained tokens.</param>
/// <param name="Progress">Share of the run that is done, 0 to 1: of its steps, tokens or seconds, whichever is furthest.</param>
public readonly record struct RunPosition(long Step, long Tokens, double Progress);

/// <summary>One piece of a schedule. At most one of the three ends is given; none means for good.</summary>
public sealed record ScheduleSegment
{
    /// <summary>How the value moves.</summary>
    public SegmentShape Shape { get; init; } = SegmentShape.Constant;

    /// <summary>Value at the start (of a constant segment: everywhere).</summary>
    public required double From { get; init; }

    /// <summary>Value at the end; not used by a constant segment.</summary>
    public double? To { get; init; }

    /// <summary>The segment ends at this step.</summary>
    public double? UntilStep { get; init; }

    /// <summary>The segment ends at this number of tokens.</summary>
    public double? UntilTokens { get; init; }

    /// <summary>The segment ends at this share of the run.</summary>
    public double? UntilProgress { get; init; }
}

/// <summary>A piecewise schedule. After the last segment its last value stays.</summary>
public sealed record Schedule
{
    /// <summary>The segments in order.</summary>
    public required IReadOnlyList<ScheduleSegment> Segments { get; init; }

    /// <summary>One value for good.</summary>
    public static Schedule Constant(double value) => new() { Segments = [new ScheduleSegment { From = value }] };

    /// <summary>Linear warm-up over some steps, constant, then a cosine to a floor over the last share of the run.</summary>
    public static Schedule WarmUpConstantCosine(double peak, double floor, long warmUpSteps, double cosineFrom) => new()
    {
        Segments =
        [
            new ScheduleSegment { Shape = SegmentShape.Linear, From = 0, To = peak, UntilStep = warmUpSteps },
            new ScheduleSegment { From = peak, UntilProgress = cosineFrom },
            new ScheduleSegment { Shape = SegmentShape.Cosine, From = peak, To = floor, UntilProgress = 1 },
        ],
    };

    /// <summary>The learning rate of DeepSeek-V3's pre-training ([P] §4.2).</summary>
    [JsonIgnore]
    public static Schedule DeepSeekV3LearningRate { get; } = new()
    {
        Segments =
        [
            new ScheduleSegment { Shape = SegmentShape.Linear, From = 0, To = 2.2e-4, UntilStep = 2000 },
            new ScheduleSegment { From = 2.2e-4, UntilTokens = 10e12 },
            new ScheduleSegment { Shape = SegmentShape.Cosine, From = 2.2e-4, To = 2.2e-5, UntilTokens = 14.3e12 },
            new ScheduleSegment { From = 2.2e-5, UntilTokens = 14.633e12 },
            new ScheduleSegment { From = 7.3e-6 },
        ],
    };

    /// <summary>The value for the step that starts at a position. A warm-up's first step already has 1/n of the rise.</summary>
    public double At(RunPosition position)
    {
        double value = 0;
        ScheduleSegment? previous = null;
        for (int i = 0; i < Segments.Count; i++)
        {
            ScheduleSegment segment = Segments[i];
            (double now, double end) = Counter(segment, position);
            value = segment.To is { } last && segment.Shape != SegmentShape.Constant ? last : segment.From;
            if (now < end)
            {
                double start = previous is null || !SameUnit(previous, segment) ? 0 : Counter(previous, position).End;
                double next = segment.UntilStep is null ? now : now + 1;
                double done = Math.Clamp((next - start) / (end - start), 0, 1);
                return segment.Shape switch
                {
                    SegmentShape.Linear => segment.From + (value - segment.From) * done,
                    SegmentShape.Cosine => value + (segment.From - value) * 0.5 * (1 + Math.Cos(Math.PI * done)),
                    _ => segment.From,
                };
            }

            previous = segment;
        }

        return value;
    }

    /// <summary>Checks the segments.</summary>
    /// <param name="field">Name of the schedule in the configuration.</param>
    /// <exception cref="FathomException">What is wrong, with the segment's number.</exception>
    public void Validate(string field)
    {
        if (Segments is null || Segments.Count == 0) throw new FathomException($"{field}: a schedule needs at least one segment");
        for (int i = 0; i < Segments.Count; i++)
        {
            ScheduleSegment segment = Segments[i];
            int ends = (segment.UntilStep is null ? 0 : 1) + (segment.UntilTokens is null ? 0 : 1) + (segment.UntilProgress is null ? 0 : 1);
            if (ends > 1) throw Wrong(i, "has more than one end; give one of until_step, until_tokens, until_progress");
            if (ends == 0 && (i < Segments.Count - 1 || segment.Shape != SegmentShape.Constant)) throw Wrong(i, "needs an end");
            if (segment.Shape != SegmentShape.Constant && segment.To is null) throw Wrong(i, "needs 'to'");
            if (!double.IsFinite(segment.From) || segment.To is { } to && !double.IsFinite(to)) throw Wrong(i, "has a value that is not finite");
            if (i == 0) continue;
            if (SameUnit(Segments[i - 1], segment) && Counter(segment, default).End <= Counter(Segments[i - 1], default).End)
                throw Wrong(i, "ends before it starts");
            if (!SameUnit(Segments[i - 1], segment) && segment.Shape != SegmentShape.Constant)
                throw Wrong(i, "must count in the unit of the segment before it, or start is unknown");
        }

        FathomException Wrong(int index, string what) => new($"{field}: segment {index + 1} {what}");
    }

    private static (double Now, double End) Counter(ScheduleSegment segment, RunPosition position) => segment switch
    {
        { UntilStep: { } end } => (position.Step, end),
        { UntilTokens: { } end } => (position.Tokens, end),
        { UntilProgress: { } end } => (position.Progress, end),
        _ => (0, double.PositiveInfinity),
    };

    private static bool SameUnit(ScheduleSegment a, ScheduleSegment b) =>
        a.UntilStep is null == b.UntilStep is null
        && a.UntilTokens is null == b.UntilTokens is null
        && a.UntilProgress is null == b.UntilProgress is null;
}
