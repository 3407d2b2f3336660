// The ceiling of whatever reads more than the caches hold, measured by summing a buffer that long.
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Fathom.Compute.Cpu.Gemm;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu;

/// <summary>Measures how fast all threads read from memory. One measurement takes some milliseconds.</summary>
public sealed class MemoryRead
{
    private const int Page = 4096;

    private readonly WorkerTeam team;
    private readonly Tensor memory;
    private readonly long share;

    /// <summary>Allocates a buffer.</summary>
    /// <param name="team">The threads that read.</param>
    /// <exception cref="FathomException">No memory for it.</exception>
    public MemoryRead(WorkerTeam team) : this(team, HostMemory.Allocate(new Shape(Bytes()), DType.U8))
    {
    }

    /// <summary>Reads memory that is there: a yardstick for whoever reads the same, since not all memory of a machine is equally fast.</summary>
    /// <param name="team">The threads that read.</param>
    /// <param name="memory">What they read; a few pages at its end may be left out.</param>
    public MemoryRead(WorkerTeam team, Tensor memory)
    {
        (this.team, this.memory) = (team, memory);
        share = memory.Bytes / team.Size / Page * Page;
    }

    /// <summary>Reads it once.</summary>
    /// <returns>Bytes a second.</returns>
    public double Measure() => share * team.Size / MachinePeaks.Seconds(team, team.Size, new ReadJob(memory.Address, share));

    /// <summary>Four times the last-level caches, at least 128 MB and at most 1 GB.</summary>
    private static long Bytes() => Math.Clamp(4 * LastLevelCacheBytes(), 128L << 20, 1L << 30);

    private static long LastLevelCacheBytes()
    {
        const long Unknown = 32L << 20;
        if (!OperatingSystem.IsLinux()) return Unknown;
        try
        {
            // Processors name the cache they share; each set of sharers is one cache.
            var caches = new Dictionary<string, long>();
            foreach (string cpu in Directory.EnumerateDirectories("/sys/devices/system/cpu", "cpu*"))
            {
                string cache = Path.Combine(cpu, "cache", "index3");
                if (!Directory.Exists(cache)) continue;
                string size = File.ReadAllText(Path.Combine(cache, "size")).Trim();
                long unit = size.EndsWith('K') ? 1 << 10 : size.EndsWith('M') ? 1 << 20 : 1;
                caches[File.ReadAllText(Path.Combine(cache, "shared_cpu_list"))] = long.Parse(size.TrimEnd('K', 'M'), CultureInfo.InvariantCulture) * unit;
            }

            return caches.Count > 0 ? caches.Values.Sum() : Unknown;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or FormatException)
        {
            return Unknown;
        }
    }

    private readonly unsafe struct ReadJob(nint address, long bytes) : ITileJob
    {
        public void Run(int tile, int worker)
        {
            float* from = (float*)(address + (nint)(tile * bytes));
            float result = CpuFeatures.Avx512 ? Sum<Vector512<float>, Width512>(from, (nint)(bytes / 4))
                : CpuFeatures.Avx2 ? Sum<Vector256<float>, Width256>(from, (nint)(bytes / 4)) : Sum<Vector128<float>, Width128>(from, (nint)(bytes / 4));
            GC.KeepAlive(float.IsNaN(result) ? this : null);
        }

        // Four streams, as the kernels that read weights have.
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private static float Sum<TVector, TWidth>(float* from, nint count)
            where TVector : struct
            where TWidth : struct, IVectorWidth<TVector>
        {
            nint quarter = count / 4;
            TVector s0 = TWidth.Zero, s1 = TWidth.Zero, s2 = TWidth.Zero, s3 = TWidth.Zero;
            for (nint i = 0; i < quarter; i += TWidth.Count)
            {
                float* at = from + i;
                s0 = TWidth.Add(s0, TWidth.Load(at));
                s1 = TWidth.Add(s1, TWidth.Load(at + quarter));
                s2 = TWidth.Add(s2, TWidth.Load(at + 2 * quarter));
                s3 = TWidth.Add(s3, TWidth.Load(at + 3 * quarter));
            }

            return TWidth.Sum(TWidth.Add(TWidth.Add(s0, s1), TWidth.Add(s2, s3)));
        }
    }
}
