// The scheduler without a model: a cache whose rows are the names of what would have been computed there. Whatever comes and goes, every row
// that a sequence counts on must hold its own tokens, computed the way they always are.
using Fathom.Model;
using Xunit;

namespace Fathom.Inference.Tests;

public sealed class SchedulerTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(1, 12, 16, 200, PrefixReuse.Prompts)]
    [InlineData(2, 9, 16, 64, PrefixReuse.Prompts)]
    [InlineData(3, 9, 3, 512, PrefixReuse.None)]
    [InlineData(4, 60, 64, 300, PrefixReuse.Prompts)]
    [InlineData(5, 20, 8, 128, PrefixReuse.PromptsAndAnswers)]
    [InlineData(6, 9, 64, 1, PrefixReuse.PromptsAndAnswers)]
    public void Whatever_comes_and_goes_every_row_is_right_and_every_block_comes_back(ulong seed, int blocks, int mostRunning, int stepTokens, PrefixReuse reuse)
    {
        const int Requests = 300, Limit = 9 * BlockPool.BlockSize;
        var random = new Random((int)seed);
        var pool = new BlockPool(blocks);
        var scheduler = new Scheduler(pool, new EngineOptions { MostRunning = mostRunning, StepTokens = stepTokens, Reuse = reuse });
        var cache = new (UInt128 Name, bool ByChunk)[blocks * BlockPool.BlockSize];
        var live = new List<ScheduledSequence>();
        int submitted = 0, ended = 0, cancelled = 0, steps = 0, idle = 0;
        while (ended < Requests)
        {
            for (; submitted < Requests && random.Next(3) == 0; submitted++)
            {
                live.Add(Sequence(submitted));
                scheduler.Enqueue(live[^1]);
            }

            if (live.Count > 0 && random.Next(20) == 0)
            {
                ScheduledSequence victim = live[random.Next(live.Count)];
                scheduler.Remove(victim);
                live.Remove(victim);
                ended++;
                cancelled++;
            }

            StepPlan plan = scheduler.Plan();
            if (plan.IsEmpty)
            {
                Assert.True(live.Count == 0, "requests are there, and nothing is computed");
                idle++;
                continue;
            }

            steps++;
            int rows = plan.Decodes.Sum(w => w.Count + w.Drafts);
            Assert.True(plan.Prompts.Sum(w => w.Count) <= Math.Max(BlockPool.BlockSize, stepTokens - rows), "prompts take more than the step leaves them");
            Assert.True(scheduler.Running <= mostRunning);
            StepWork[] work = [.. plan.All];
            Assert.Equal(work.Length, work.Select(w => w.Sequence).Distinct().Count());
            foreach (StepWork w in work) Write(w);
            foreach (StepWork w in work) Check(w.Sequence);
            foreach (StepWork w in work)
            {
                if (w.Samples) Generate(w);
                scheduler.Computed(w.Sequence);
                if (w.Sequence.Tokens.Length < w.Sequence.Limit) continue;
                scheduler.Remove(w.Sequence);
                live.Remove(w.Sequence);
                ended++;
            }

            Assert.True(steps < 200_000, "the requests do not end");
        }

        output.WriteLine($"{Requests} requests in {steps} steps, {cancelled} cancelled, {scheduler.Preemptions} preemptions, {scheduler.FoundTokens} of {scheduler.QueriedTokens} prompt tokens found, {pool.KeptBlocks} of {blocks} blocks kept");
        Assert.Equal(blocks, pool.FreeBlocks);
        if (blocks < 10) Assert.True(scheduler.Preemptions > 0);
        if (reuse != PrefixReuse.None) Assert.True(scheduler.FoundTokens > 0);

        ScheduledSequence Sequence(int number)
        {
            int common = random.Next(4), own = 1 + random.Next(150);
            int[] prompt = [.. TestModels.Tokens(70 * common, 50, (ulong)random.Next(2)), .. TestModels.Tokens(own, 50, (ulong)number)];
            return new ScheduledSequence(new CachedSequence(pool), prompt, Math.Min(Limit, prompt.Length + 1 + random.Next(200)), random.Next(3), random.Next(2) == 0 ? null : "user");
        }

        void Write(StepWork w)
        {
            for (int i = 0; i < w.Count + w.Drafts; i++)
            {
                int slot = w.Sequence.Cache.Slot(w.First + i), block = slot / BlockPool.BlockSize;
                Assert.DoesNotContain(live, other => other != w.Sequence && other.Cache.Blocks.Contains(block));
                cache[slot] = (i < w.Count ? Name(w.Sequence, w.First + i) : 1, w.IsPrompt);
            }
        }

        void Check(ScheduledSequence sequence)
        {
            for (int i = 0; i < Math.Min(sequence.Cache.Length, sequence.Tokens.Length); i++)
            {
                (UInt128 name, bool byChunk) = cache[sequence.Cache.Slot(i)];
                Assert.True(Name(sequence, i) == name, $"position {i} holds something else");
                if (reuse != PrefixReuse.PromptsAndAnswers) Assert.Equal(i < sequence.PromptLength, byChunk);
            }
        }

        // As the engine does: some drafts are accepted, the others forgotten, and new ones made.
        void Generate(StepWork w)
        {
            int accepted = random.Next(w.Drafts + 1);
            for (int i = 0; i < accepted; i++)
            {
                cache[w.Sequence.Cache.Slot(w.First + w.Count + i)] = default;
                w.Sequence.Append(w.Sequence.Draft[i]);
                cache[w.Sequence.Cache.Slot(w.First + w.Count + i)] = (Name(w.Sequence, w.First + w.Count + i), false);
            }

            w.Sequence.Append(random.Next(50));
            w.Sequence.Cache.Rewind(w.First + w.Count + accepted);
            w.Sequence.Draft.Clear();
            for (int i = random.Next(4); i > 0; i--) w.Sequence.Draft.Add(random.Next(50));
        }
    }

    [Fact]
    public void Generating_sequences_have_a_row_in_every_step_beside_a_long_prompt()
    {
        var pool = new BlockPool(200);
        var scheduler = new Scheduler(pool, new EngineOptions { StepTokens = 256 });
        ScheduledSequence[] small = [.. Enumerable.Range(0, 8).Select(i => new ScheduledSequence(new CachedSequence(pool), TestModels.Tokens(10, 50, (ulong)i), 400, 0, null))];
        foreach (ScheduledSequence s in small) scheduler.Enqueue(s);
        Step(scheduler);
        var large = new ScheduledSequence(new CachedSequence(pool), TestModels.Tokens(4000, 50, 99), 4010, 0, null);
        scheduler.Enqueue(large);
        int steps = 0;
        for (; large.InPrompt; steps++)
        {
            StepPlan plan = Step(scheduler);
            Assert.Equal(8, plan.Decodes.Count);
            Assert.True(plan.Prompts.Sum(w => w.Count) + plan.Decodes.Sum(w => w.Count) <= 256);
        }

        output.WriteLine($"a prompt of 4000 tokens in {steps} steps of at most 256 tokens, beside 8 sequences with a token in each");
        Assert.InRange(steps, 4000 / 248, 4000 / 192 + 1);
    }

    [Fact]
    public void A_short_prompt_does_not_wait_for_a_long_one()
    {
        var pool = new BlockPool(200);
        var scheduler = new Scheduler(pool, new EngineOptions { StepTokens = 256 });
        var large = new ScheduledSequence(new CachedSequence(pool), TestModels.Tokens(4000, 50, 1), 4010, 0, null);
        var small = new ScheduledSequence(new CachedSequence(pool), TestModels.Tokens(100, 50, 2), 200, 0, null);
        scheduler.Enqueue(large);
        Step(scheduler);
        scheduler.Enqueue(small);
        StepPlan plan = Step(scheduler);
        Assert.Contains(plan.Prompts, w => w.Sequence == small && w.Samples);
        Assert.Contains(plan.Prompts, w => w.Sequence == large && w.Count >= 128);
    }

    [Fact]
    public void Requests_of_one_prompt_compute_it_once()
    {
        var pool = new BlockPool(100);
        var scheduler = new Scheduler(pool, new EngineOptions { StepTokens = 512 });
        int[] prompt = TestModels.Tokens(300, 50, 1);
        ScheduledSequence[] answers = [.. Enumerable.Range(0, 8).Select(_ => new ScheduledSequence(new CachedSequence(pool), prompt, 350, 0, null))];
        foreach (ScheduledSequence s in answers) scheduler.Enqueue(s);
        while (answers.Any(s => s.InPrompt)) Step(scheduler);
        output.WriteLine($"{scheduler.PromptTokens} of {8 * 300} prompt tokens computed");
        Assert.Equal(300 + 7 * (300 - 256), scheduler.PromptTokens);
        Assert.Equal(8 * 256 - 256, scheduler.FoundTokens);
    }

    [Fact]
    public void Blocks_of_one_user_are_not_found_by_another()
    {
        var pool = new BlockPool(100);
        var scheduler = new Scheduler(pool, new EngineOptions());
        int[] prompt = TestModels.Tokens(300, 50, 1);
        foreach (string? user in (string?[])[null, "", "a", "b", "a"])
        {
            var sequence = new ScheduledSequence(new CachedSequence(pool), prompt, 310, 0, user);
            scheduler.Enqueue(sequence);
            while (sequence.InPrompt) Step(scheduler);
            scheduler.Remove(sequence);
        }

        Assert.Equal(256, scheduler.FoundTokens); // the second "a"
    }

    [Fact]
    public void Users_take_turns_by_tokens_and_priorities_come_first()
    {
        var pool = new BlockPool(400);
        var scheduler = new Scheduler(pool, new EngineOptions { MostRunning = 1, StepTokens = 256, Reuse = PrefixReuse.None });
        var order = new List<string>();
        var waiting = new List<ScheduledSequence>();
        for (int i = 0; i < 6; i++) Add("many", 0, 10);
        Add("few", 0, 11);
        Add("few", 0, 12);
        Add("late", 1, 13);
        while (waiting.Count > 0)
        {
            foreach (StepWork w in Step(scheduler).All.ToArray())
            {
                if (w.Sequence.InPrompt) continue;
                order.Add(w.Sequence.User!);
                scheduler.Remove(w.Sequence);
                waiting.Remove(w.Sequence);
            }
        }

        Assert.Equal(["late", "many", "few", "many", "few", "many", "many", "many", "many"], order);

        void Add(string user, int priority, ulong seed)
        {
            waiting.Add(new ScheduledSequence(new CachedSequence(pool), TestModels.Tokens(100, 50, seed), 101, priority, user));
            scheduler.Enqueue(waiting[^1]);
        }
    }

    [Fact]
    public void What_can_never_fit_is_refused()
    {
        var pool = new BlockPool(3);
        var scheduler = new Scheduler(pool, new EngineOptions());
        Assert.Throws<ArgumentException>(() => scheduler.Enqueue(new ScheduledSequence(new CachedSequence(pool), [1], 193, 0, null)));
    }

    [Fact]
    public void The_block_that_was_used_longest_ago_is_written_over_first_and_the_end_of_a_chain_before_its_beginning()
    {
        var pool = new BlockPool(4);
        BlockHash[] hashes = [.. Enumerable.Range(0, 4).Select(i => BlockHash.Begin(null).Next(TestModels.Tokens(64, 50, (ulong)i)))];
        var first = new CachedSequence(pool);
        var second = new CachedSequence(pool);
        Assert.True(first.TryGrow(128) && second.TryGrow(128));
        first.Publish(0, hashes[0]);
        first.Publish(1, hashes[1]);
        second.Publish(0, hashes[2]);
        second.Publish(1, hashes[3]);
        first.Dispose();
        second.Dispose();
        Assert.Equal(4, pool.KeptBlocks);
        var third = new CachedSequence(pool);
        Assert.True(third.TryShare(hashes[0])); // used again
        third.Dispose();
        int[] evicted = [1, 3, 2, 0];
        for (int i = 0; i < 4; i++)
        {
            Assert.True(pool.TryTake(out _));
            for (int j = 0; j < 4; j++) Assert.Equal(Array.IndexOf(evicted, j) > i, pool.Holds(hashes[j]));
        }

        Assert.False(pool.TryTake(out _));
    }

    /// <summary>What a row holds: a name of all tokens up to it.</summary>
    private static UInt128 Name(ScheduledSequence sequence, int position)
    {
        UInt128 name = 7;
        foreach (int token in sequence.Tokens[..(position + 1)]) name = name * 1_000_003 + (uint)token + 1;
        return name;
    }

    private static StepPlan Step(Scheduler scheduler)
    {
        StepPlan plan = scheduler.Plan();
        foreach (StepWork w in plan.All)
        {
            if (w.Samples) w.Sequence.Append(1);
            scheduler.Computed(w.Sequence);
        }

        return plan;
    }
}
