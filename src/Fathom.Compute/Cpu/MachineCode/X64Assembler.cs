// Machine code of x86-64 for instructions that .NET has no intrinsics for (VDPBF16PS), and those that loops around them need. The
// encodings are those of Intel's Software Developer's Manual, volume 2: REX, VEX and EVEX prefixes, then opcode, ModRM, SIB, displacement.
// Vectors are 512 bits wide. Displacements are of 32 bits or none, so that EVEX's scaled ones are not needed.
using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace Fathom.Compute.Cpu.MachineCode;

/// <summary>A general register of 64 bits.</summary>
internal enum Register
{
    Rax,
    Rcx,
    Rdx,
    Rbx,
    Rsp,
    Rbp,
    Rsi,
    Rdi,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
}

/// <summary>A vector register of 512 bits.</summary>
/// <param name="Number">0 to 31.</param>
internal readonly record struct Zmm(int Number);

/// <summary>Memory at a sum of registers and a distance.</summary>
/// <param name="Base">First register.</param>
/// <param name="Index">Second register, or none; not <see cref="Register.Rsp"/>.</param>
/// <param name="Offset">Distance in bytes.</param>
internal readonly record struct Address(Register Base, Register? Index = null, int Offset = 0);

/// <summary>A place in the code that jumps lead to.</summary>
internal sealed class Label
{
    /// <summary>Where it is; negative until it is bound.</summary>
    public int Position { get; set; } = -1;

    /// <summary>Displacements that wait for it.</summary>
    public List<int> Uses { get; } = [];
}

/// <summary>When to jump, after a comparison of unsigned numbers.</summary>
internal enum Condition
{
    Below = 2,
    Equal = 4,
    NotEqual = 5,
}

/// <summary>Collects instructions. Operands are in Intel's order: the first is written.</summary>
internal sealed class X64Assembler
{
    private const int MaskOfRest = 1;
    private readonly List<byte> code = [];
    private int open;

    private enum Map
    {
        M0F = 1,
        M0F38 = 2,
        M0F3A = 3,
    }

    private enum Prefix
    {
        None,
        P66,
        PF3,
        PF2,
    }

    /// <summary>The code; all labels that were jumped to must be bound.</summary>
    public ReadOnlySpan<byte> Code
    {
        get
        {
            if (open > 0) throw new InvalidOperationException($"{open} jumps lead nowhere");
            return CollectionsMarshal.AsSpan(code);
        }
    }

    /// <summary>MOV r64, r/m64.</summary>
    public void Move(Register to, Address from) => General(0x8B, to, from);

    /// <summary>LEA r64, m.</summary>
    public void LoadAddress(Register to, Address from) => General(0x8D, to, from);

    /// <summary>XOR r/m32, r32, which clears the register.</summary>
    public void Clear(Register register) => General(0x31, register, register, wide: false);

    /// <summary>ADD r/m64, imm8.</summary>
    public void Add(Register to, sbyte value)
    {
        General(0x83, (Register)0, to);
        code.Add((byte)value);
    }

    /// <summary>CMP r/m64, r64.</summary>
    public void Compare(Register left, Register right) => General(0x39, right, left);

    /// <summary>TEST r/m64, r64.</summary>
    public void Test(Register left, Register right) => General(0x85, right, left);

    /// <summary>PUSH r64.</summary>
    public void Push(Register register) => OneByte(0x50, register);

    /// <summary>POP r64.</summary>
    public void Pop(Register register) => OneByte(0x58, register);

    /// <summary>RET.</summary>
    public void Return() => code.Add(0xC3);

    /// <summary>PREFETCHT1 m8.</summary>
    public void PrefetchSecondLevel(Address line)
    {
        Rex(false, 2, line);
        code.AddRange([0x0F, 0x18]);
        Memory(2, line);
    }

    /// <summary>Jcc rel32.</summary>
    public void JumpIf(Condition condition, Label to)
    {
        code.AddRange([0x0F, (byte)(0x80 + condition), 0, 0, 0, 0]);
        to.Uses.Add(code.Count);
        if (to.Position < 0) open++;
        else Patch(to, code.Count);
    }

    /// <summary>Makes a label this place.</summary>
    public void Bind(Label label)
    {
        if (label.Position >= 0) throw new InvalidOperationException("the label is bound already");
        label.Position = code.Count;
        foreach (int use in label.Uses) Patch(label, use);
        open -= label.Uses.Count;
    }

    /// <summary>KMOVD k1, m32: which 16-bit elements masked loads read.</summary>
    public void LoadMask(Address from)
    {
        (int r, int x, int b) = Extensions(0, from);
        code.AddRange([0xC4, (byte)(r << 7 | x << 6 | b << 5 | 1), 0xF9, 0x90]);
        Memory(MaskOfRest, from);
    }

    /// <summary>KMOVQ k1, m64: which bytes masked loads of bytes read.</summary>
    public void LoadByteMask(Address from)
    {
        (int r, int x, int b) = Extensions(0, from);
        code.AddRange([0xC4, (byte)(r << 7 | x << 6 | b << 5 | 1), 0xF8, 0x90]);
        Memory(MaskOfRest, from);
    }

    /// <summary>VMOVDQU8 zmm {k1}{z}, m512: bytes outside the mask are 0, and their memory is not touched.</summary>
    public void LoadBytesMasked(Zmm to, Address from) => Vector(Map.M0F, Prefix.PF2, wide: false, 0x6F, to, default, from, MaskOfRest);

    /// <summary>VMOVDQA64 zmm, zmm.</summary>
    public void Copy(Zmm to, Zmm from) => Vector(Map.M0F, Prefix.P66, wide: true, 0x6F, to, default, from);

    /// <summary>VPERMI2B zmm, zmm, zmm: bytes of a table of 128 by the lower seven bits of an index.</summary>
    /// <param name="index">Is replaced by the bytes.</param>
    /// <param name="lower">First half of the table.</param>
    /// <param name="upper">Second half.</param>
    public void LookUpBytes(Zmm index, Zmm lower, Zmm upper) => Vector(Map.M0F38, Prefix.P66, wide: false, 0x75, index, lower, upper);

    /// <summary>VPTERNLOGD zmm, zmm, zmm, F8: to |= left &amp; right.</summary>
    public void OrOfAnd(Zmm to, Zmm left, Zmm right)
    {
        Vector(Map.M0F3A, Prefix.P66, wide: false, 0x25, to, left, right);
        code.Add(0xF8);
    }

    /// <summary>VPUNPCKLBW zmm, zmm, zmm: of each 128 bits a0 b0 … a7 b7.</summary>
    public void InterleaveLowBytes(Zmm to, Zmm left, Zmm right) => Vector(Map.M0F, Prefix.P66, wide: false, 0x60, to, left, right);

    /// <summary>VPUNPCKHBW zmm, zmm, zmm: of each 128 bits a8 b8 … a15 b15.</summary>
    public void InterleaveHighBytes(Zmm to, Zmm left, Zmm right) => Vector(Map.M0F, Prefix.P66, wide: false, 0x68, to, left, right);

    /// <summary>VMOVDQU16 zmm, m512.</summary>
    public void Load(Zmm to, Address from) => Vector(Map.M0F, Prefix.PF2, wide: true, 0x6F, to, default, from);

    /// <summary>VMOVDQU16 zmm {k1}{z}, m512: elements outside the mask are 0, and their memory is not touched.</summary>
    public void LoadMasked(Zmm to, Address from) => Vector(Map.M0F, Prefix.PF2, wide: true, 0x6F, to, default, from, MaskOfRest);

    /// <summary>VMOVDQU16 m512, zmm.</summary>
    public void Store(Address to, Zmm from) => Vector(Map.M0F, Prefix.PF2, wide: true, 0x7F, from, default, to);

    /// <summary>VCVTNE2PS2BF16 zmm, zmm, zmm: 32 singles rounded to nearest even, subnormal ones to zero.</summary>
    /// <param name="to">BF16 numbers.</param>
    /// <param name="upper">Singles of the upper half.</param>
    /// <param name="lower">Singles of the lower half.</param>
    public void NarrowToBFloat16(Zmm to, Zmm upper, Zmm lower) => Vector(Map.M0F38, Prefix.PF2, wide: false, 0x72, to, upper, lower);

    /// <summary>VDPBF16PS zmm, zmm, zmm: a lane of F32 += both products of a pair of BF16, the second of the pair first, each sum rounded.</summary>
    public void AddDotOfBFloat16(Zmm sum, Zmm left, Zmm right) => Vector(Map.M0F38, Prefix.PF3, wide: false, 0x52, sum, left, right);

    /// <summary>VDPBF16PS zmm, zmm, m512.</summary>
    public void AddDotOfBFloat16(Zmm sum, Zmm left, Address right) => Vector(Map.M0F38, Prefix.PF3, wide: false, 0x52, sum, left, right);

    /// <summary>VPXORD zmm, zmm, zmm, which clears the register.</summary>
    public void Clear(Zmm register) => Vector(Map.M0F, Prefix.P66, wide: false, 0xEF, register, register, register);

    /// <summary>VADDPS zmm, zmm, zmm.</summary>
    public void AddSingles(Zmm to, Zmm left, Zmm right) => Vector(Map.M0F, Prefix.None, wide: false, 0x58, to, left, right);

    /// <summary>VUNPCKLPS zmm, zmm, zmm: of each 128 bits a0 b0 a1 b1.</summary>
    public void InterleaveLowSingles(Zmm to, Zmm left, Zmm right) => Vector(Map.M0F, Prefix.None, wide: false, 0x14, to, left, right);

    /// <summary>VUNPCKHPS zmm, zmm, zmm: of each 128 bits a2 b2 a3 b3.</summary>
    public void InterleaveHighSingles(Zmm to, Zmm left, Zmm right) => Vector(Map.M0F, Prefix.None, wide: false, 0x15, to, left, right);

    /// <summary>VUNPCKLPD zmm, zmm, zmm: of each 128 bits the lower halves.</summary>
    public void InterleaveLowDoubles(Zmm to, Zmm left, Zmm right) => Vector(Map.M0F, Prefix.P66, wide: true, 0x14, to, left, right);

    /// <summary>VUNPCKHPD zmm, zmm, zmm: of each 128 bits the upper halves.</summary>
    public void InterleaveHighDoubles(Zmm to, Zmm left, Zmm right) => Vector(Map.M0F, Prefix.P66, wide: true, 0x15, to, left, right);

    /// <summary>VSHUFF32X4 zmm, zmm, zmm, imm8: two of the four quarters of each operand.</summary>
    /// <param name="to">Quarters of <paramref name="left"/>, then of <paramref name="right"/>.</param>
    /// <param name="left">First operand.</param>
    /// <param name="right">Second operand.</param>
    /// <param name="quarters">Two bits a quarter, the lowest first.</param>
    public void ShuffleQuarters(Zmm to, Zmm left, Zmm right, byte quarters)
    {
        Vector(Map.M0F3A, Prefix.P66, wide: false, 0x23, to, left, right);
        code.Add(quarters);
    }

    /// <summary>VEXTRACTF32X4 m128, zmm, imm8.</summary>
    public void StoreQuarter(Address to, Zmm from, byte quarter)
    {
        Vector(Map.M0F3A, Prefix.P66, wide: false, 0x19, from, default, to);
        code.Add(quarter);
    }

    /// <summary>VZEROUPPER, without which code of other widths would be slow afterwards.</summary>
    public void ClearUpperHalves() => code.AddRange([0xC5, 0xF8, 0x77]);

    private void General(byte opcode, Register register, Address memory)
    {
        Rex(true, (int)register, memory);
        code.Add(opcode);
        Memory((int)register, memory);
    }

    private void General(byte opcode, Register register, Register other, bool wide = true)
    {
        int rex = 0x40 | (wide ? 8 : 0) | (int)register >> 3 << 2 | (int)other >> 3;
        if (rex != 0x40) code.Add((byte)rex);
        code.AddRange([opcode, ModRm(3, (int)register, (int)other)]);
    }

    private void OneByte(byte opcode, Register register)
    {
        if (register >= Register.R8) code.Add(0x41);
        code.Add((byte)(opcode + ((int)register & 7)));
    }

    private void Rex(bool wide, int register, Address memory)
    {
        int rex = 0x40 | (wide ? 8 : 0) | register >> 3 << 2 | (int)(memory.Index ?? 0) >> 3 << 1 | (int)memory.Base >> 3;
        if (rex != 0x40) code.Add((byte)rex);
    }

    /// <summary>The fourth bits of registers, inverted, as VEX and EVEX have them.</summary>
    private static (int R, int X, int B) Extensions(int register, Address memory) =>
        (~register >> 3 & 1, ~(int)(memory.Index ?? 0) >> 3 & 1, ~(int)memory.Base >> 3 & 1);

    private void Vector(Map map, Prefix prefix, bool wide, byte opcode, Zmm register, Zmm second, Address memory, int mask = 0)
    {
        (int r, int x, int b) = Extensions(register.Number, memory);
        Evex(map, prefix, wide, register, second, r, x, b, mask);
        code.Add(opcode);
        Memory(register.Number, memory);
    }

    private void Vector(Map map, Prefix prefix, bool wide, byte opcode, Zmm register, Zmm second, Zmm third)
    {
        // The third register's fourth and fifth bits are B and X.
        Evex(map, prefix, wide, register, second, ~register.Number >> 3 & 1, ~third.Number >> 4 & 1, ~third.Number >> 3 & 1, 0);
        code.AddRange([opcode, ModRm(3, register.Number, third.Number)]);
    }

    private void Evex(Map map, Prefix prefix, bool wide, Zmm register, Zmm second, int r, int x, int b, int mask)
    {
        const int Bits512 = 2;
        code.Add(0x62);
        code.Add((byte)(r << 7 | x << 6 | b << 5 | (~register.Number >> 4 & 1) << 4 | (int)map));
        code.Add((byte)((wide ? 0x80 : 0) | (~second.Number & 15) << 3 | 4 | (int)prefix));
        code.Add((byte)((mask > 0 ? 0x80 : 0) | Bits512 << 5 | (~second.Number >> 4 & 1) << 3 | mask));
    }

    private void Memory(int register, Address memory)
    {
        const int NoIndex = 4, BaseOfNoRegister = 5;
        int low = (int)memory.Base & 7;
        bool far = memory.Offset != 0 || low == BaseOfNoRegister, sib = memory.Index is not null || low == NoIndex;
        code.Add(ModRm(far ? 2 : 0, register, sib ? NoIndex : low));
        if (sib) code.Add((byte)(((int?)memory.Index ?? NoIndex) % 8 << 3 | low));
        if (!far) return;
        Span<byte> offset = stackalloc byte[sizeof(int)];
        BinaryPrimitives.WriteInt32LittleEndian(offset, memory.Offset);
        code.AddRange(offset);
    }

    private static byte ModRm(int mode, int register, int other) => (byte)(mode << 6 | (register & 7) << 3 | other & 7);

    private void Patch(Label label, int use)
    {
        Span<byte> all = CollectionsMarshal.AsSpan(code);
        BinaryPrimitives.WriteInt32LittleEndian(all[(use - sizeof(int))..], label.Position - use);
    }
}
