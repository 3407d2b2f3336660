// The running average of the weights lies in host memory. Weights come over in chunks, through two page-locked buffers and a stream
// of its own, while the processor adds in the chunk before. The trap is when: a copy must follow everything that moved weights, but
// must not wait for the pass that is put into the main stream meanwhile, on another thread. So whoever moves weights marks the place
// in the main stream that copies follow.
using Fathom.Compute.Cpu;
using Fathom.Compute.Cuda.Interop;
using Fathom.Compute.Cuda.Runtime;

namespace Fathom.Compute.Cuda;

/// <summary>Updates averages in host memory from weights on the GPU, on the calling thread.</summary>
internal sealed unsafe class WeightAverage(CudaContext context)
{
    /// <summary>Elements of a chunk: 16 MB are copied in a third of a millisecond and added in in a few.</summary>
    internal const long ChunkElements = 4 << 20;

    private readonly Lock gate = new();
    private volatile Pipe? pipe;
    private int moved = 1;

    /// <summary>To be called after every launch that changes weights, on the thread that launches.</summary>
    public void WeightsMoved()
    {
        pipe?.MarkMainStream();
        Volatile.Write(ref moved, 1);
    }

    /// <summary>average += rate · (weights - average). The weights must stay as they are until the call returns.</summary>
    /// <param name="average">Contiguous F32 in host memory.</param>
    /// <param name="weights">Contiguous F32 on the GPU, as many elements.</param>
    /// <param name="rate">Share of the weights.</param>
    public void Move(Tensor average, Tensor weights, float rate)
    {
        if (average.Elements == 0) return;
        lock (gate)
        {
            if (pipe is null)
            {
                var first = new Pipe(context);
                first.MarkMainStream();
                pipe = first;
            }

            if (Interlocked.Exchange(ref moved, 0) != 0) pipe.FollowMark();
            long chunks = LaunchShape.Cover(average.Elements, ChunkElements);
            pipe.Copy(weights, 0);
            for (long chunk = 0; chunk < chunks; chunk++)
            {
                if (chunk + 1 < chunks) pipe.Copy(weights, chunk + 1);
                float* values = pipe.Wait(chunk);
                long first = chunk * ChunkElements;
                CpuOptimizer.MoveAverage(average.Pointer<float>() + first, values, Math.Min(ChunkElements, average.Elements - first), rate);
            }
        }

        GC.KeepAlive(average.Owner);
        GC.KeepAlive(weights.Owner);
    }

    /// <summary>Two buffers, of which one is filled while the other is read.</summary>
    private sealed class Pipe
    {
        private readonly CudaContext context;
        private readonly CudaStream stream;
        private readonly CudaEvent weightsReady;
        private readonly (PinnedMemory Memory, CudaEvent Filled)[] buffers;

        public Pipe(CudaContext context)
        {
            this.context = context;
            stream = new CudaStream(context);
            weightsReady = new CudaEvent(context);
            buffers = [Buffer(), Buffer()];
        }

        public void MarkMainStream() => weightsReady.Record(context.Stream);

        public void FollowMark() => stream.WaitFor(weightsReady);

        public void Copy(in Tensor weights, long chunk)
        {
            context.MakeCurrent();
            (PinnedMemory memory, CudaEvent filled) = buffers[chunk % buffers.Length];
            long first = chunk * ChunkElements, count = Math.Min(ChunkElements, weights.Elements - first);
            CudaException.Check(
                Driver.CopyToHost(memory.Address, weights.Address + (nint)(first * sizeof(float)), (nuint)(count * sizeof(float)), stream.Handle),
                "cuMemcpyDtoHAsync");
            filled.Record(stream);
        }

        public float* Wait(long chunk)
        {
            (PinnedMemory memory, CudaEvent filled) = buffers[chunk % buffers.Length];
            filled.Synchronize();
            return (float*)memory.Address;
        }

        private (PinnedMemory Memory, CudaEvent Filled) Buffer() => (new PinnedMemory(context, ChunkElements * sizeof(float)), new CudaEvent(context));
    }
}
