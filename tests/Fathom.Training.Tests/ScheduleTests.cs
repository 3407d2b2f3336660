// Schedules as the paper gives them, and what is refused.
using Fathom.Numerics;
using Xunit;

namespace Fathom.Training.Tests;

public sealed class ScheduleTests
{
    [Theory]
    [InlineData(0, 0, 2.2e-4 / 2000)]
    [InlineData(999, 1e9, 1.1e-4)]
    [InlineData(1999, 2e9, 2.2e-4)]
    [InlineData(2000, 2e9, 2.2e-4)]
    [InlineData(200_000, 9.9e12, 2.2e-4)]
    [InlineData(230_000, 12.15e12, (2.2e-4 + 2.2e-5) / 2)]
    [InlineData(260_000, 14.5e12, 2.2e-5)]
    [InlineData(270_000, 14.7e12, 7.3e-6)]
    [InlineData(999_999, 20e12, 7.3e-6)]
    public void The_papers_learning_rate(long step, double tokens, double expected) =>
        Assert.Equal(expected, Schedule.DeepSeekV3LearningRate.At(new RunPosition(step, (long)tokens, 0)), expected * 1e-9);

    [Fact]
    public void A_batch_ramp_is_linear_in_tokens()
    {
        var ramp = new Schedule
        {
            Segments =
            [
                new ScheduleSegment { Shape = SegmentShape.Linear, From = 3072, To = 15360, UntilTokens = 469e9 },
                new ScheduleSegment { From = 15360 },
            ],
        };
        ramp.Validate("batch_size");
        Assert.Equal(3072, ramp.At(default));
        Assert.Equal((3072 + 15360) / 2.0, ramp.At(new RunPosition(0, 469_000_000_000 / 2, 0)), 1e-6);
        Assert.Equal(15360, ramp.At(new RunPosition(0, 500_000_000_000, 0)));
    }

    [Fact]
    public void Wrong_schedules_are_named()
    {
        Refused("at least one segment", []);
        Refused("segment 1 needs 'to'", [new() { Shape = SegmentShape.Linear, From = 1, UntilStep = 5 }]);
        Refused("segment 1 needs an end", [new() { From = 1 }, new() { From = 2 }]);
        Refused("segment 2 ends before it starts", [new() { From = 1, UntilStep = 5 }, new() { From = 2, UntilStep = 3 }]);
        Refused("more than one end", [new() { From = 1, UntilStep = 5, UntilTokens = 5 }]);
        Refused("start is unknown", [new() { From = 1, UntilStep = 5 }, new() { Shape = SegmentShape.Cosine, From = 1, To = 0, UntilTokens = 50 }]);

        static void Refused(string what, ScheduleSegment[] segments)
        {
            string message = Assert.Throws<FathomException>(() => new Schedule { Segments = segments }.Validate("learning_rate")).Message;
            Assert.StartsWith("learning_rate: ", message, StringComparison.Ordinal);
            Assert.Contains(what, message, StringComparison.Ordinal);
        }
    }
}
