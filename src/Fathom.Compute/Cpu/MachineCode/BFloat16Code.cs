// Dot products of BF16 rows with four BF16 weight rows by VDPBF16PS, which multiplies twice as many numbers as an FP32 instruction and
// needs no expansion. The tile is that of FewRowsKernels: 24 sums of six rows and four weight rows in registers; of fewer rows, fewer.
// A row's sum is the same whatever its neighbours: a lane every 16 pairs, the rest of a row under a mask as a last step, then the lanes of
// a quarter as a tree, then the quarters. VDPBF16PS takes subnormal numbers and results as zero, and rounds to nearest even.
// Activations are rounded by VCVTNE2PS2BF16.
// Weights in 8-bit codes are widened on their way: the two bytes of a BF16 number come from two tables of 128 bytes (VPERMI2B) and are
// interleaved within each 128 bits, so that of 64 codes one vector has every other eight and another one the rest. Activations are laid
// out alike when they are rounded.
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;

namespace Fathom.Compute.Cpu.MachineCode;

/// <summary>What a kernel is given. The code reads fields by their place.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct BFloat16DotArguments
{
    /// <summary>Bytes of a weight row in whole vectors.</summary>
    public nint WholeBytes;

    /// <summary>First row of activations, BF16.</summary>
    public byte* X;

    /// <summary>Bytes from one of them to the next.</summary>
    public nint StrideX;

    /// <summary>First weight row.</summary>
    public byte* W0;

    /// <summary>Second.</summary>
    public byte* W1;

    /// <summary>Third.</summary>
    public byte* W2;

    /// <summary>Fourth.</summary>
    public byte* W3;

    /// <summary>How far ahead weights are asked for, in bytes.</summary>
    public nint Ahead;

    /// <summary>Results, a quarter of a vector for each row of activations.</summary>
    public float* Sums;

    /// <summary>Bytes from one of these to the next.</summary>
    public nint StrideSums;

    /// <summary>A bit for each element behind the whole vectors.</summary>
    public ulong Rest;

    /// <summary>For codes: a vector each of the first and second half of the upper bytes' table and of the lower bytes' table, and one of sign bits.</summary>
    public byte* Tables;
}

/// <summary>Dot products of one, two, four and six rows of activations with four weight rows.</summary>
/// <param name="code">The first of them.</param>
/// <param name="starts">Where each begins.</param>
internal readonly unsafe struct BFloat16Dots(byte* code, int[] starts)
{
    /// <summary>Of one row.</summary>
    public readonly delegate* unmanaged[SuppressGCTransition]<BFloat16DotArguments*, void> Of1 = At(code, starts[0]);

    /// <summary>Of two rows.</summary>
    public readonly delegate* unmanaged[SuppressGCTransition]<BFloat16DotArguments*, void> Of2 = At(code, starts[1]);

    /// <summary>Of four rows.</summary>
    public readonly delegate* unmanaged[SuppressGCTransition]<BFloat16DotArguments*, void> Of4 = At(code, starts[2]);

    /// <summary>Of six rows.</summary>
    public readonly delegate* unmanaged[SuppressGCTransition]<BFloat16DotArguments*, void> Of6 = At(code, starts[3]);

    private static delegate* unmanaged[SuppressGCTransition]<BFloat16DotArguments*, void> At(byte* code, int start) =>
        (delegate* unmanaged[SuppressGCTransition]<BFloat16DotArguments*, void>)(code + start);
}

/// <summary>Writes the kernels, once a process.</summary>
internal static unsafe class BFloat16Code
{
    /// <summary>Bytes, and BF16 numbers, of a vector.</summary>
    public const int VectorBytes = 64, VectorElements = 32;

    /// <summary>Dot products with BF16 weights, where <see cref="IsSupported"/>.</summary>
    public static readonly BFloat16Dots DotsOfNumbers;

    /// <summary>The same with weights in 8-bit codes, where <see cref="TakesCodes"/>; activations as <see cref="NarrowForCodes"/> lays them out.</summary>
    public static readonly BFloat16Dots DotsOfCodes;

    /// <summary>As <see cref="Narrow"/>, two vectors at a time, of which the first gets the even eights of 64 numbers and the second the odd ones.</summary>
    public static readonly delegate* unmanaged[SuppressGCTransition]<byte*, byte*, nint, void> NarrowForCodes;

    /// <summary>Rounds singles to BF16: to the first address, from the second, as many bytes of BF16 as the third says, whole vectors and at least one.</summary>
    public static readonly delegate* unmanaged[SuppressGCTransition]<byte*, byte*, nint, void> Narrow;

    /// <summary>Dot products that stay in registers, so many times twelve: the peak of the instruction.</summary>
    public static readonly delegate* unmanaged<nint, void> Arithmetic;

    /// <summary>Dot products of a turn of <see cref="Arithmetic"/>, each of <see cref="VectorElements"/> multiply-adds.</summary>
    public const int ArithmeticDots = 12;

    private const int Weights = 4, MostRows = 6, Tables = 5;
    private const int Alignment = 64;

    // The calling convention of Linux leaves rbx, rbp and r12 to r15 to the caller.
    private static readonly Register[] SavedRegisters = [Register.Rbx, Register.Rbp, Register.R12, Register.R13, Register.R14, Register.R15];
    private static readonly Register[] RowPointers = [Register.Rsi, Register.R8, Register.R9, Register.R10, Register.R11, Register.Rbx];
    private static readonly Register[] WeightPointers = [Register.Rdx, Register.Rcx, Register.R12, Register.R13];

    static BFloat16Code()
    {
        if (!ProcessorHasInstruction()) return;
        var all = new List<byte>();
        int[] rows = [1, 2, 4, MostRows];
        int[] dots = [.. rows.Select(m => Append(all, code => WriteDots(code, m, codes: false)))];
        int[] codeDots = [.. rows.Select(m => Append(all, code => WriteDots(code, m, codes: true)))];
        int narrow = Append(all, code => WriteNarrow(code, forCodes: false)), narrowForCodes = Append(all, code => WriteNarrow(code, forCodes: true)), arithmetic = Append(all, WriteArithmetic);
        byte* place = ExecutableMemory.Place(CollectionsMarshal.AsSpan(all));
        if (place == null) return;
        DotsOfNumbers = new BFloat16Dots(place, dots);
        DotsOfCodes = new BFloat16Dots(place, codeDots);
        NarrowForCodes = (delegate* unmanaged[SuppressGCTransition]<byte*, byte*, nint, void>)(place + narrowForCodes);
        Narrow = (delegate* unmanaged[SuppressGCTransition]<byte*, byte*, nint, void>)(place + narrow);
        Arithmetic = (delegate* unmanaged<nint, void>)(place + arithmetic);
    }

    /// <summary>Whether the processor has the instruction and the system lets code be written.</summary>
    public static bool IsSupported => Arithmetic != null;

    /// <summary>Whether weights may be codes: looking them up is an instruction of its own (AVX512_VBMI), which Cooper Lake has not.</summary>
    public static bool TakesCodes => IsSupported && Avx512Vbmi.IsSupported;

    /// <summary>Whether the processor has the instruction, but the system does not let code be written.</summary>
    public static bool IsForbidden => !IsSupported && ProcessorHasInstruction();

    /// <summary>Adds a function, at the beginning of a cache line.</summary>
    /// <returns>Where it begins.</returns>
    private static int Append(List<byte> all, Action<X64Assembler> write)
    {
        const byte Breakpoint = 0xCC;
        while (all.Count % Alignment != 0) all.Add(Breakpoint);
        int start = all.Count;
        var code = new X64Assembler();
        write(code);
        all.AddRange(code.Code);
        return start;
    }

    // Leaf 7, subleaf 1, bit 5 of EAX: AVX512_BF16. That the system saves vectors of 512 bits is what the intrinsics' flag says.
    private static bool ProcessorHasInstruction() =>
        ExecutableMemory.IsSupported && Avx512BW.IsSupported && X86Base.CpuId(0, 0).Eax >= 7 && X86Base.CpuId(7, 0).Eax >= 1 && (X86Base.CpuId(7, 1).Eax & 1 << 5) != 0;

    private static void WriteArithmetic(X64Assembler code)
    {
        const Register Turns = Register.Rdi;
        Zmm left = new(ArithmeticDots), right = new(ArithmeticDots + 1);
        Label loop = new();
        for (int i = 0; i <= right.Number; i++) code.Clear(new Zmm(i));
        code.Bind(loop);
        for (int i = 0; i < ArithmeticDots; i++) code.AddDotOfBFloat16(new(i), left, right);
        code.Add(Turns, -1);
        code.JumpIf(Condition.NotEqual, loop);
        code.ClearUpperHalves();
        code.Return();
    }

    /// <summary>Rounds singles to BF16, a vector a turn; for codes two, whose eights are then sorted into even and odd ones.</summary>
    private static void WriteNarrow(X64Assembler code, bool forCodes)
    {
        const Register To = Register.Rdi, From = Register.Rsi, Bytes = Register.Rdx, At = Register.Rax;
        int vectors = forCodes ? 2 : 1;
        Label loop = new();
        code.Clear(At);
        code.Bind(loop);
        for (int i = 0; i < 2 * vectors; i++) code.Load(new(i), new(From, Offset: i * VectorBytes));
        for (int i = 0; i < vectors; i++) code.NarrowToBFloat16(new(i), new(2 * i + 1), new(2 * i));
        if (forCodes)
        {
            code.ShuffleQuarters(new(2), new(0), new(1), 0x88);
            code.ShuffleQuarters(new(1), new(0), new(1), 0xDD);
        }

        code.Store(new(To, At), new(forCodes ? 2 : 0));
        if (forCodes) code.Store(new(To, At, VectorBytes), new(1));
        code.LoadAddress(From, new(From, Offset: 2 * vectors * VectorBytes));
        code.LoadAddress(At, new(At, Offset: vectors * VectorBytes));
        code.Compare(At, Bytes);
        code.JumpIf(Condition.Below, loop);
        code.ClearUpperHalves();
        code.Return();
    }

    /// <summary>Dot products of some rows of activations.</summary>
    private static void WriteDots(X64Assembler code, int rows, bool codes)
    {
        const Register Arguments = Register.Rdi, At = Register.Rax, AtX = Register.Rbp, End = Register.R14, Ahead = Register.R15;
        foreach (Register register in SavedRegisters) code.Push(register);
        code.Move(At, Field(nameof(BFloat16DotArguments.StrideX)));
        code.Move(RowPointers[0], Field(nameof(BFloat16DotArguments.X)));
        for (int m = 1; m < rows; m++) code.LoadAddress(RowPointers[m], new(RowPointers[m - 1], At));
        code.Move(WeightPointers[0], Field(nameof(BFloat16DotArguments.W0)));
        code.Move(WeightPointers[1], Field(nameof(BFloat16DotArguments.W1)));
        code.Move(WeightPointers[2], Field(nameof(BFloat16DotArguments.W2)));
        code.Move(WeightPointers[3], Field(nameof(BFloat16DotArguments.W3)));
        code.Move(End, Field(nameof(BFloat16DotArguments.WholeBytes)));
        code.Move(Ahead, Field(nameof(BFloat16DotArguments.Ahead)));
        code.Clear(At);
        for (int i = 0; i < rows * Weights; i++) code.Clear(new Zmm(i));
        if (codes)
        {
            code.Clear(AtX);
            code.Move(Register.R14, Field(nameof(BFloat16DotArguments.Tables)));
            for (int i = 0; i < Tables; i++) code.Load(Table(i), new(Register.R14, Offset: i * VectorBytes));
            code.Move(End, Field(nameof(BFloat16DotArguments.WholeBytes)));
        }

        Label loop = new(), rest = new(), done = new();
        code.Test(End, End);
        code.JumpIf(Condition.Equal, rest);
        code.Bind(loop);
        foreach (Register pointer in WeightPointers) code.PrefetchSecondLevel(new(pointer, Ahead));
        Step(masked: false);
        code.Add(Ahead, VectorBytes);
        code.Add(At, VectorBytes);
        if (codes) code.LoadAddress(AtX, new(AtX, Offset: 2 * VectorBytes));
        code.Compare(At, End);
        code.JumpIf(Condition.Below, loop);
        code.Bind(rest);
        code.Move(End, Field(nameof(BFloat16DotArguments.Rest)));
        code.Test(End, End);
        code.JumpIf(Condition.Equal, done);
        if (codes) code.LoadByteMask(Field(nameof(BFloat16DotArguments.Rest)));
        else code.LoadMask(Field(nameof(BFloat16DotArguments.Rest)));
        Step(masked: true);
        code.Bind(done);
        WriteSums(code, rows, Field(nameof(BFloat16DotArguments.Sums)), Field(nameof(BFloat16DotArguments.StrideSums)));
        code.ClearUpperHalves();
        foreach (Register register in SavedRegisters.Reverse()) code.Pop(register);
        code.Return();

        static Address Field(string name) => new(Arguments, Offset: (int)Marshal.OffsetOf<BFloat16DotArguments>(name));

        void Step(bool masked)
        {
            if (codes)
            {
                for (int j = 0; j < Weights; j++) StepOfCodes(j, masked);
                return;
            }

            for (int j = 0; j < Weights; j++) Load(Weight(j), new(WeightPointers[j], At), masked);
            for (int m = 0; m < rows; m++)
            {
                Zmm row = new(MostRows * Weights + Weights + m % 2);
                Load(row, new(RowPointers[m], At), masked);
                for (int j = 0; j < Weights; j++) code.AddDotOfBFloat16(new(m * Weights + j), row, Weight(j));
            }
        }

        // Widens 64 codes and multiplies them with all rows.
        void StepOfCodes(int j, bool masked)
        {
            Zmm upper = new(MostRows * Weights + Tables), lower = new(upper.Number + 1), both = new(upper.Number + 2);
            Address from = new(WeightPointers[j], At);
            if (masked) code.LoadBytesMasked(both, from);
            else code.Load(both, from);
            code.Copy(upper, both);
            code.Copy(lower, both);
            code.LookUpBytes(upper, Table(0), Table(1));
            code.LookUpBytes(lower, Table(2), Table(3));
            code.OrOfAnd(upper, both, Table(4));
            code.InterleaveLowBytes(both, lower, upper);
            code.InterleaveHighBytes(lower, lower, upper);
            for (int m = 0; m < rows; m++) code.AddDotOfBFloat16(new(m * Weights + j), both, new Address(RowPointers[m], AtX));
            for (int m = 0; m < rows; m++) code.AddDotOfBFloat16(new(m * Weights + j), lower, new Address(RowPointers[m], AtX, VectorBytes));
        }

        void Load(Zmm to, Address from, bool masked)
        {
            if (masked) code.LoadMasked(to, from);
            else code.Load(to, from);
        }

        static Zmm Weight(int j) => new(MostRows * Weights + j);
        static Zmm Table(int i) => new(MostRows * Weights + i);
    }

    /// <summary>Adds the lanes of each sum and stores four sums a row.</summary>
    private static void WriteSums(X64Assembler code, int rows, Address sums, Address stride)
    {
        Zmm other = new(MostRows * Weights);
        for (int m = 0; m < rows; m++)
        {
            // Quarters of (sum 0, sum 1, sum 2, sum 3), one lane each.
            Zmm s0 = new(m * Weights), s1 = new(m * Weights + 1), s2 = new(m * Weights + 2), s3 = new(m * Weights + 3);
            AddInterleaved(s0, s0, s1, code.InterleaveLowSingles, code.InterleaveHighSingles);
            AddInterleaved(s2, s2, s3, code.InterleaveLowSingles, code.InterleaveHighSingles);
            AddInterleaved(s0, s0, s2, code.InterleaveLowDoubles, code.InterleaveHighDoubles);
        }

        // Two rows a vector, then four, or twice the same two.
        for (int m = 0; m < rows; m += 2) AddQuarters(Row(m), Row(m), Row(Math.Min(m + 1, rows - 1)), 0x44, 0xEE);
        for (int m = 0; m < rows; m += 4) AddQuarters(Row(m), Row(m), Row(m + 2 < rows ? m + 2 : m), 0x88, 0xDD);
        code.Move(Register.Rsi, sums);
        code.Move(Register.Rax, stride);
        for (int m = 0; m < rows; m++)
        {
            code.StoreQuarter(new(Register.Rsi), Row(m / 4 * 4), (byte)(m % 4));
            if (m + 1 < rows) code.LoadAddress(Register.Rsi, new(Register.Rsi, Register.Rax));
        }

        static Zmm Row(int m) => new(m * Weights);

        void AddInterleaved(Zmm to, Zmm left, Zmm right, Action<Zmm, Zmm, Zmm> low, Action<Zmm, Zmm, Zmm> high)
        {
            low(other, left, right);
            high(to, left, right);
            code.AddSingles(to, to, other);
        }

        void AddQuarters(Zmm to, Zmm left, Zmm right, byte first, byte second)
        {
            code.ShuffleQuarters(other, left, right, first);
            code.ShuffleQuarters(to, left, right, second);
            code.AddSingles(to, to, other);
        }
    }
}
