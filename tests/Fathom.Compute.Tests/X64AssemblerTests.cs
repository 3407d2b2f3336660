// Encodings, byte for byte as the GNU assembler writes them (with displacements of 32 bits, as ours are).
using Fathom.Compute.Cpu.MachineCode;
using Xunit;

namespace Fathom.Compute.Tests;

public sealed class X64AssemblerTests
{
    private static readonly Dictionary<string, (string Bytes, Action<X64Assembler> Write)> Instructions = new()
    {
        ["mov rsi, [rdi+8]"] = ("488BB708000000", static code => code.Move(Register.Rsi, new(Register.Rdi, Offset: 8))),
        ["mov r14, [rdi]"] = ("4C8B37", static code => code.Move(Register.R14, new(Register.Rdi))),
        ["mov rax, [rsp+300]"] = ("488B84242C010000", static code => code.Move(Register.Rax, new(Register.Rsp, Offset: 300))),
        ["mov r9, [r12]"] = ("4D8B0C24", static code => code.Move(Register.R9, new(Register.R12))),
        ["mov rcx, [rbp]"] = ("488B8D00000000", static code => code.Move(Register.Rcx, new(Register.Rbp))),
        ["mov rcx, [r13]"] = ("498B8D00000000", static code => code.Move(Register.Rcx, new(Register.R13))),
        ["lea r8, [rsi+rax]"] = ("4C8D0406", static code => code.LoadAddress(Register.R8, new(Register.Rsi, Register.Rax))),
        ["lea rbx, [r13+r15-5]"] = ("4B8D9C3DFBFFFFFF", static code => code.LoadAddress(Register.Rbx, new(Register.R13, Register.R15, -5))),
        ["xor eax, eax"] = ("31C0", static code => code.Clear(Register.Rax)),
        ["xor r10d, r10d"] = ("4531D2", static code => code.Clear(Register.R10)),
        ["add r15, 64"] = ("4983C740", static code => code.Add(Register.R15, 64)),
        ["add rax, -8"] = ("4883C0F8", static code => code.Add(Register.Rax, -8)),
        ["cmp rax, r14"] = ("4C39F0", static code => code.Compare(Register.Rax, Register.R14)),
        ["cmp r9, rdx"] = ("4939D1", static code => code.Compare(Register.R9, Register.Rdx)),
        ["test r14, r14"] = ("4D85F6", static code => code.Test(Register.R14, Register.R14)),
        ["test rdx, r8"] = ("4C85C2", static code => code.Test(Register.Rdx, Register.R8)),
        ["push rbx"] = ("53", static code => code.Push(Register.Rbx)),
        ["push r12"] = ("4154", static code => code.Push(Register.R12)),
        ["pop r15"] = ("415F", static code => code.Pop(Register.R15)),
        ["pop rsi"] = ("5E", static code => code.Pop(Register.Rsi)),
        ["ret"] = ("C3", static code => code.Return()),
        ["prefetcht1 [rdx+r15]"] = ("420F18143A", static code => code.PrefetchSecondLevel(new(Register.Rdx, Register.R15))),
        ["prefetcht1 [r12+r15]"] = ("430F18143C", static code => code.PrefetchSecondLevel(new(Register.R12, Register.R15))),
        ["prefetcht1 [rcx+1024]"] = ("0F189100040000", static code => code.PrefetchSecondLevel(new(Register.Rcx, Offset: 1024))),
        ["kmovd k1, [rdi+80]"] = ("C4E1F9908F50000000", static code => code.LoadMask(new(Register.Rdi, Offset: 80))),
        ["kmovd k1, [r9+r10]"] = ("C481F9900C11", static code => code.LoadMask(new(Register.R9, Register.R10))),
        ["vmovdqu16 zmm0, [rsi+rax]"] = ("62F1FF486F0406", static code => code.Load(new(0), new(Register.Rsi, Register.Rax))),
        ["vmovdqu16 zmm27, [r13+rax]"] = ("6241FF486F9C0500000000", static code => code.Load(new(27), new(Register.R13, Register.Rax))),
        ["vmovdqu16 zmm9, [r11+r15+99]"] = ("6211FF486F8C3B63000000", static code => code.Load(new(9), new(Register.R11, Register.R15, 99))),
        ["vmovdqu16 zmm28{k1}{z}, [r12+rax]"] = ("6241FFC96F2404", static code => code.LoadMasked(new(28), new(Register.R12, Register.Rax))),
        ["vmovdqu16 zmm5{k1}{z}, [rbx]"] = ("62F1FFC96F2B", static code => code.LoadMasked(new(5), new(Register.Rbx))),
        ["vdpbf16ps zmm0, zmm28, zmm24"] = ("62921E4052C0", static code => code.AddDotOfBFloat16(new(0), new(28), new Zmm(24))),
        ["vdpbf16ps zmm23, zmm29, zmm27"] = ("6282164052FB", static code => code.AddDotOfBFloat16(new(23), new(29), new Zmm(27))),
        ["vdpbf16ps zmm9, zmm2, zmm15"] = ("62526E4852CF", static code => code.AddDotOfBFloat16(new(9), new(2), new Zmm(15))),
        ["vmovdqu16 [rdi+rax], zmm0"] = ("62F1FF487F0407", static code => code.Store(new(Register.Rdi, Register.Rax), new(0))),
        ["vmovdqu16 [r14], zmm30"] = ("6241FF487F36", static code => code.Store(new(Register.R14), new(30))),
        ["vcvtne2ps2bf16 zmm0, zmm1, zmm0"] = ("62F2774872C0", static code => code.NarrowToBFloat16(new(0), new(1), new(0))),
        ["vcvtne2ps2bf16 zmm20, zmm9, zmm31"] = ("6282374872E7", static code => code.NarrowToBFloat16(new(20), new(9), new(31))),
        ["vpxord zmm17, zmm17, zmm17"] = ("62A17540EFC9", static code => code.Clear(new Zmm(17))),
        ["vpxord zmm3, zmm3, zmm3"] = ("62F16548EFDB", static code => code.Clear(new Zmm(3))),
        ["vaddps zmm4, zmm12, zmm31"] = ("62911C4858E7", static code => code.AddSingles(new(4), new(12), new(31))),
        ["vunpcklps zmm24, zmm0, zmm1"] = ("62617C4814C1", static code => code.InterleaveLowSingles(new(24), new(0), new(1))),
        ["vunpckhps zmm8, zmm16, zmm9"] = ("62517C4015C1", static code => code.InterleaveHighSingles(new(8), new(16), new(9))),
        ["vunpcklpd zmm24, zmm20, zmm22"] = ("6221DD4014C6", static code => code.InterleaveLowDoubles(new(24), new(20), new(22))),
        ["vunpckhpd zmm7, zmm8, zmm19"] = ("62B1BD4815FB", static code => code.InterleaveHighDoubles(new(7), new(8), new(19))),
        ["vshuff32x4 zmm24, zmm4, zmm20, 0x44"] = ("62235D4823C444", static code => code.ShuffleQuarters(new(24), new(4), new(20), 0x44)),
        ["vshuff32x4 zmm1, zmm17, zmm2, 0xdd"] = ("62F3754023CADD", static code => code.ShuffleQuarters(new(1), new(17), new(2), 0xDD)),
        ["vextractf32x4 [rsi], zmm16, 3"] = ("62E37D48190603", static code => code.StoreQuarter(new(Register.Rsi), new(16), 3)),
        ["vextractf32x4 [r13+r8], zmm2, 1"] = ("62937D481994050000000001", static code => code.StoreQuarter(new(Register.R13, Register.R8), new(2), 1)),
        ["kmovq k1, [rdi+80]"] = ("C4E1F8908F50000000", static code => code.LoadByteMask(new(Register.Rdi, Offset: 80))),
        ["vmovdqu8 zmm31{k1}{z}, [r12+rax]"] = ("62417FC96F3C04", static code => code.LoadBytesMasked(new(31), new(Register.R12, Register.Rax))),
        ["vmovdqa64 zmm29, zmm31"] = ("6201FD486FEF", static code => code.Copy(new(29), new(31))),
        ["vmovdqa64 zmm3, zmm12"] = ("62D1FD486FDC", static code => code.Copy(new(3), new(12))),
        ["vpermi2b zmm29, zmm24, zmm25"] = ("62023D4075E9", static code => code.LookUpBytes(new(29), new(24), new(25))),
        ["vpternlogd zmm29, zmm31, zmm28, 0xf8"] = ("6203054025ECF8", static code => code.OrOfAnd(new(29), new(31), new(28))),
        ["vpunpcklbw zmm31, zmm30, zmm29"] = ("62010D4060FD", static code => code.InterleaveLowBytes(new(31), new(30), new(29))),
        ["vpunpckhbw zmm30, zmm30, zmm29"] = ("62010D4068F5", static code => code.InterleaveHighBytes(new(30), new(30), new(29))),
        ["vdpbf16ps zmm23, zmm31, [rbx+rbp]"] = ("62E20640523C2B", static code => code.AddDotOfBFloat16(new(23), new(31), new Address(Register.Rbx, Register.Rbp))),
        ["vdpbf16ps zmm4, zmm30, [rsi+rbp+64]"] = ("62F20E4052A42E40000000", static code => code.AddDotOfBFloat16(new(4), new(30), new Address(Register.Rsi, Register.Rbp, 64))),
        ["vzeroupper"] = ("C5F877", static code => code.ClearUpperHalves()),
    };

    public static TheoryData<string> Names => [.. Instructions.Keys];

    [Theory, MemberData(nameof(Names))]
    public void Instructions_have_the_bytes_of_the_GNU_assembler(string name)
    {
        var code = new X64Assembler();
        Instructions[name].Write(code);
        Assert.Equal(Instructions[name].Bytes, Convert.ToHexString(code.Code));
    }

    [Fact]
    public void Jumps_lead_to_their_labels_forwards_and_backwards()
    {
        var code = new X64Assembler();
        Label start = new(), end = new();
        code.Bind(start);
        code.Return();
        code.JumpIf(Condition.Below, start); // 7 bytes back from behind it
        code.JumpIf(Condition.Equal, end); // over the next one
        Assert.Throws<InvalidOperationException>(() => code.Code.Length);
        code.Return();
        code.Bind(end);
        Assert.Equal("C3" + "0F82F9FFFFFF" + "0F8401000000" + "C3", Convert.ToHexString(code.Code));
        Assert.Throws<InvalidOperationException>(() => code.Bind(end));
    }
}
