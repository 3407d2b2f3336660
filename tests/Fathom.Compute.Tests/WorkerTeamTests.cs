// The team must run every tile exactly once, whoever is late, nested or failing.
using Fathom.Compute.Cpu;
using Xunit;

namespace Fathom.Compute.Tests;

public sealed unsafe class WorkerTeamTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(7)]
    public void Every_tile_runs_once(int size)
    {
        using var team = new WorkerTeam(size);
        var counts = new int[257];
        fixed (int* first = counts)
        {
            for (int round = 1; round <= 300; round++)
            {
                team.For(counts.Length, new Count(first, size));
                if (round % 50 == 0) Thread.Sleep(2); // Long enough for the threads to park.
            }
        }

        Assert.All(counts, count => Assert.Equal(300, count));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(7)]
    public void Every_tile_of_ranges_runs_once_whatever_their_number(int size)
    {
        using var team = new WorkerTeam(size);
        for (int tiles = 0; tiles < 40; tiles++)
        {
            var counts = new int[40];
            fixed (int* first = counts) team.ForRanges(tiles, new Count(first, size));
            Assert.Equal(Enumerable.Range(0, 40).Select(tile => tile < tiles ? 1 : 0), counts);
        }
    }

    [Fact]
    public void Callers_from_several_threads_take_turns()
    {
        using var team = new WorkerTeam(3);
        var counts = new int[64];
        fixed (int* first = counts)
        {
            nint address = (nint)first;
            Thread[] callers = [.. Enumerable.Range(0, 4).Select(_ => new Thread(() =>
            {
                for (int i = 0; i < 200; i++) team.For(64, new Count((int*)address, 3));
            }))];
            foreach (Thread caller in callers) caller.Start();
            foreach (Thread caller in callers) caller.Join();
        }

        Assert.All(counts, count => Assert.Equal(800, count));
    }

    [Fact]
    public void A_tile_that_fails_fails_the_job_and_the_team_goes_on()
    {
        using var team = new WorkerTeam(2);
        Assert.Throws<InvalidOperationException>(() => team.For(50, default(Fail)));
        var counts = new int[8];
        fixed (int* first = counts) team.For(8, new Count(first, 2));
        Assert.All(counts, count => Assert.Equal(1, count));
    }

    private readonly struct Count(int* counts, int size) : ITileJob
    {
        public void Run(int tile, int worker)
        {
            if (worker >= size) throw new InvalidOperationException($"worker {worker} of {size}");
            Interlocked.Increment(ref counts[tile]);
        }
    }

    private readonly struct Fail : ITileJob
    {
        public void Run(int tile, int worker)
        {
            if (tile == 17) throw new InvalidOperationException("tile 17");
        }
    }
}
