// Decides what a step computes. It knows tokens and blocks and nothing of the model, so that its promises can be tested without one:
// generating sequences have a row in every step; what is left of the step goes to prompts, so nobody waits longer than a step for
// another's prompt; and of those that run, the first by priority and arrival always gets on, because it may take the blocks of all others.
// Who gives up blocks waits again, and computes again what they held.
using Fathom.Model;

namespace Fathom.Inference;

/// <summary>Queue, running sequences and plan. Not thread-safe.</summary>
/// <param name="pool">The cache's blocks.</param>
/// <param name="options">Limits; a request fits the pool.</param>
internal sealed class Scheduler(BlockPool pool, EngineOptions options)
{
    /// <summary>Generated tokens of one sequence that are computed again in one step.</summary>
    private const int MostReplayed = BlockPool.BlockSize;

    private readonly List<ScheduledSequence> waiting = [];
    private readonly List<ScheduledSequence> running = []; // by rank
    private readonly List<ScheduledSequence> prompts = [];
    private readonly HashSet<BlockHash> underWay = [];
    private readonly FairShares shares = new();
    private readonly StepPlan plan = new();
    private long arrivals;

    public int Waiting => waiting.Count;

    public int Running => running.Count;

    public long Preemptions { get; private set; }

    /// <summary>Tokens of prompts looked for among the cached, once a request.</summary>
    public long QueriedTokens { get; private set; }

    /// <summary>Those that were found.</summary>
    public long FoundTokens { get; private set; }

    /// <summary>Tokens of prompts computed.</summary>
    public long PromptTokens { get; private set; }

    /// <summary>Puts a new request in the queue.</summary>
    public void Enqueue(ScheduledSequence sequence)
    {
        if (BlockPool.BlocksOf(sequence.Limit) > pool.Blocks) throw new ArgumentException($"a sequence of up to {sequence.Limit} tokens can never fit {pool.Blocks} blocks", nameof(sequence));
        sequence.Arrival = arrivals++;
        shares.Enter(sequence.User);
        waiting.Add(sequence);
    }

    /// <summary>Takes a request out, wherever it is, and gives its blocks back.</summary>
    public void Remove(ScheduledSequence sequence)
    {
        if (!running.Remove(sequence)) waiting.Remove(sequence);
        sequence.Cache.Truncate(0);
        shares.Leave(sequence.User);
    }

    /// <summary>Chooses the work of the next step, and takes the room that it needs. Valid until the next call.</summary>
    public StepPlan Plan()
    {
        plan.Clear();
        do
        {
            underWay.Clear();
            int rows = PlanDecodes();
            Admit();
            PlanPrompts(Math.Max(BlockPool.BlockSize, options.StepTokens - rows));
        }
        while (plan.IsEmpty && running.Count > 0); // all of a prompt was found: its sequence generates from here on
        return plan;
    }

    /// <summary>The step has run: what it computed may be found by others.</summary>
    /// <param name="sequence">With its new tokens, and without the drafts that were refused.</param>
    public void Computed(ScheduledSequence sequence)
    {
        if (options.Reuse == PrefixReuse.None) return;
        int end = options.Reuse == PrefixReuse.Prompts ? Math.Min(sequence.Cache.Length, sequence.PromptLength) : sequence.Cache.Length;
        for (; sequence.PublishedBlocks < end / BlockPool.BlockSize; sequence.PublishedBlocks++)
            sequence.Cache.Publish(sequence.PublishedBlocks, sequence.Contents(sequence.PublishedBlocks));
    }

    /// <summary>Which of two goes first: by priority, then by arrival.</summary>
    private static int Rank(ScheduledSequence a, ScheduledSequence b) =>
        a.Priority != b.Priority ? b.Priority.CompareTo(a.Priority) : a.Arrival.CompareTo(b.Arrival);

    private int PlanDecodes()
    {
        int rows = 0;
        for (int i = 0; i < running.Count; i++)
        {
            ScheduledSequence sequence = running[i];
            if (sequence.InPrompt) continue;
            int count = Math.Min(sequence.Missing, MostReplayed), end = sequence.Cache.Length + count;
            if (!ReserveByForce(sequence, end)) continue;
            bool samples = count == sequence.Missing;
            int drafts = samples ? Math.Min(sequence.Draft.Count, sequence.Limit - sequence.Tokens.Length - 1) : 0;
            if (drafts > 0 && !sequence.Cache.TryReserve(end + drafts)) drafts = 0;
            Schedule(sequence, count, Math.Max(0, drafts), samples);
            rows += count + Math.Max(0, drafts);
        }

        return rows;
    }

    /// <summary>Takes blocks for a sequence, if need be those of the sequences behind it.</summary>
    /// <returns>False where it was itself the last and had to give its own up.</returns>
    private bool ReserveByForce(ScheduledSequence sequence, int tokens)
    {
        while (!sequence.Cache.TryReserve(tokens))
        {
            ScheduledSequence victim = running[^1];
            Preempt(victim);
            if (victim == sequence) return false;
        }

        return true;
    }

    private void Preempt(ScheduledSequence victim)
    {
        running.Remove(victim);
        victim.Cache.Truncate(0);
        victim.Draft.Clear();
        victim.PublishedBlocks = 0;
        victim.FollowedTokens = 0;
        victim.Preemptions++;
        Preemptions++;
        waiting.Add(victim);
    }

    private void Admit()
    {
        while (waiting.Count > 0 && running.Count < options.MostRunning)
        {
            ScheduledSequence next = waiting.Aggregate((best, other) => IsBefore(other, best) ? other : best);
            if (!TryAdmit(next)) return;
            waiting.Remove(next);
            int at = running.FindIndex(other => Rank(next, other) < 0);
            running.Insert(at < 0 ? running.Count : at, next);
        }
    }

    private bool IsBefore(ScheduledSequence a, ScheduledSequence b)
    {
        if (a.Priority != b.Priority) return a.Priority > b.Priority;
        int byShare = shares.Of(a.User).CompareTo(shares.Of(b.User));
        return byShare != 0 ? byShare < 0 : a.Arrival < b.Arrival;
    }

    /// <summary>
    /// Takes blocks for all tokens that are known. One more for each that runs must stay free: admitting a request only to preempt it would
    /// waste what it computed.
    /// </summary>
    private bool TryAdmit(ScheduledSequence sequence)
    {
        Share(sequence);
        int missing = BlockPool.BlocksOf(sequence.Tokens.Length) - sequence.Cache.Blocks.Count;
        if (running.Count > 0 && pool.FreeBlocks < missing + running.Count || !sequence.Cache.TryReserve(sequence.Tokens.Length))
        {
            sequence.Cache.Truncate(0);
            sequence.PublishedBlocks = 0;
            sequence.FollowedTokens = 0;
            return false;
        }

        int found = Math.Min(sequence.Cache.Length, sequence.PromptLength);
        if (!sequence.WasAdmitted)
        {
            QueriedTokens += sequence.PromptLength;
            Found(sequence, found);
        }

        sequence.WasAdmitted = true;
        return true;
    }

    private void Found(ScheduledSequence sequence, int tokens)
    {
        sequence.FoundTokens += tokens;
        FoundTokens += tokens;
    }

    /// <summary>Takes over the blocks that others have computed and that follow what the sequence has. At least one token stays to be computed.</summary>
    private void Share(ScheduledSequence sequence)
    {
        if (options.Reuse == PrefixReuse.None || sequence.Cache.Length % BlockPool.BlockSize != 0) return;
        int most = MostShared(sequence);
        for (int block = sequence.Cache.Length / BlockPool.BlockSize; block < most; block++)
        {
            bool follows = sequence.FollowedTokens == sequence.Cache.Length;
            if (!sequence.Cache.TryShare(sequence.Contents(block))) return;
            if (follows) sequence.FollowedTokens = sequence.Cache.Length;
            sequence.PublishedBlocks = block + 1;
        }
    }

    private int MostShared(ScheduledSequence sequence)
    {
        int most = sequence.Tokens.Length - 1;
        if (options.Reuse == PrefixReuse.Prompts) most = Math.Min(most, sequence.PromptLength);
        return most / BlockPool.BlockSize;
    }

    /// <summary>
    /// Shares the rest of the step out among prompts. The first has half of it for certain; the others follow, the shortest first, since they
    /// soon have an answer; what they leave is the first's again.
    /// </summary>
    private void PlanPrompts(int budget)
    {
        prompts.Clear();
        foreach (ScheduledSequence sequence in running)
        {
            if (sequence.InPrompt) prompts.Add(sequence);
        }

        if (prompts.Count == 0) return;
        ScheduledSequence first = prompts[0];
        prompts.RemoveAt(0);
        prompts.Sort((a, b) => a.Missing != b.Missing ? a.Missing.CompareTo(b.Missing) : Rank(a, b));
        ShareLate(first);
        int half = prompts.Count == 0 ? budget : Math.Max(BlockPool.BlockSize, budget / 2), reserved = Chunk(first, half);
        Mark(first, reserved);
        int left = budget - reserved;
        foreach (ScheduledSequence sequence in prompts)
        {
            ShareLate(sequence);
            if (left <= 0 || Awaits(sequence)) continue;
            int count = Chunk(sequence, left);
            Mark(sequence, count);
            ScheduleChunk(sequence, count);
            left -= count;
        }

        ScheduleChunk(first, Chunk(first, reserved + Math.Max(0, left)));
    }

    /// <summary>Blocks that became known since the sequence was admitted.</summary>
    private void ShareLate(ScheduledSequence sequence)
    {
        int before = sequence.Cache.Length;
        Share(sequence);
        if (sequence.Preemptions == 0) Found(sequence, sequence.Cache.Length - before);
    }

    /// <summary>Tokens of a prompt for a share of the step: all that are left, or up to a block's end, since only full blocks are found by others.</summary>
    private static int Chunk(ScheduledSequence sequence, int share)
    {
        int left = sequence.PromptLength - sequence.Cache.Length;
        if (left <= share) return Math.Max(0, left);
        int end = (sequence.Cache.Length + share) / BlockPool.BlockSize * BlockPool.BlockSize;
        return end > sequence.Cache.Length ? end - sequence.Cache.Length : share;
    }

    /// <summary>Notes the blocks that a chunk begins or completes, so that no other sequence computes them in the same step.</summary>
    private void Mark(ScheduledSequence sequence, int count)
    {
        if (options.Reuse == PrefixReuse.None) return;
        int end = Math.Min(BlockPool.BlocksOf(sequence.Cache.Length + count), sequence.PromptLength / BlockPool.BlockSize);
        for (int block = sequence.Cache.Length / BlockPool.BlockSize; block < end; block++) underWay.Add(sequence.Contents(block));
    }

    /// <summary>Whether the next block of a prompt is computed for another in this step: the next step will find it.</summary>
    private bool Awaits(ScheduledSequence sequence)
    {
        int block = sequence.Cache.Length / BlockPool.BlockSize;
        return options.Reuse != PrefixReuse.None && sequence.Cache.Length % BlockPool.BlockSize == 0 && block < MostShared(sequence)
            && underWay.Contains(sequence.Contents(block));
    }

    private void ScheduleChunk(ScheduledSequence sequence, int count)
    {
        if (count == 0) return; // all of the prompt was found
        int first = sequence.Cache.Length, end = first + count;
        Take(sequence, count);
        PromptTokens += count;
        plan.Prompts.Add(new StepWork(sequence, first, count, 0, true, end == sequence.Tokens.Length));
    }

    private void Schedule(ScheduledSequence sequence, int count, int drafts, bool samples)
    {
        int first = sequence.Cache.Length;
        Take(sequence, count + drafts);
        plan.Decodes.Add(new StepWork(sequence, first, count, drafts, false, samples));
    }

    private void Take(ScheduledSequence sequence, int tokens)
    {
        if (!sequence.Cache.TryGrow(tokens)) throw new InvalidOperationException($"no room for {tokens} tokens that was reserved before");
        shares.Charge(sequence.User, tokens);
    }
}
