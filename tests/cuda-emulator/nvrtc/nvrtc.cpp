// NVRTC over g++: a program's source and headers are written to a folder, ptx.cuh and hopper.cuh are replaced by the emulator's own,
// each name expression gets a description under a lowered name, and the shared object that g++ makes of it is the "cubin".
// FATHOM_EMULATOR_CXX names another compiler, FATHOM_EMULATOR_CXXFLAGS adds options (later ones win: "-O0 -g").
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <regex>
#include <spawn.h>
#include <sstream>
#include <string>
#include <sys/wait.h>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))
#define EMBED(symbol, file) asm(".section .rodata\n" #symbol ": .incbin \"" file "\"\n.byte 0\n.previous"); extern "C" const char symbol[]

EMBED(embedded_abi, "device/abi.hpp");
EMBED(embedded_prelude, "device/prelude.hpp");
EMBED(embedded_ptx, "device/ptx.cuh");
EMBED(embedded_hopper, "device/hopper.cuh");

extern char** environ;

namespace {

namespace fs = std::filesystem;

enum Result { Success = 0, InvalidInput = 3, InvalidProgram = 4, Compilation = 6, BuiltinOperationFailure = 7, NoNamesAfterCompilation = 8,
    NoLoweredNamesBeforeCompilation = 9, NameExpressionNotValid = 10 };

struct File { std::string name, text; };

struct Program
{
    File source;
    std::vector<File> headers;
    std::vector<std::string> expressions, loweredNames;
    std::string log, cubin;
    bool compiled = false;
};

std::string read(const fs::path& path)
{
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return std::move(text).str();
}

void write(const fs::path& path, const std::string& text)
{
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
}

// The exit status; what is printed goes to a file.
int execute(const fs::path& folder, const std::vector<std::string>& command, const char* output)
{
    std::vector<char*> arguments;
    for (auto& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addchdir_np(&actions, folder.c_str());
    posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_APPEND, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    pid_t process;
    int error = posix_spawnp(&process, arguments[0], &actions, nullptr, arguments.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error != 0) return 127;
    int status;
    while (waitpid(process, &status, 0) < 0 && errno == EINTR) { }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

std::string description(const std::string& expression, const std::string& symbol)
{
    std::string quoted;
    for (char c : expression) { if (c == '"' || c == '\\') quoted += '\\'; quoted += c; }
    return "extern \"C\" __attribute__((visibility(\"default\"))) const emulated::Kernel " + symbol + ";\n"
        "const emulated::Kernel " + symbol + " = emulated::describe<" + (expression.starts_with('&') ? "" : "&") + expression + ">(\"" + quoted + "\");\n";
}

// The source, then what the driver looks for in the shared object.
std::string unit(const Program& program)
{
    std::string text = "#include \"" + program.source.name + "\"\n"
        "extern \"C\" __attribute__((visibility(\"default\"))) const emulated::Module emulated_module;\n"
        "const emulated::Module emulated_module = {\"" EMULATOR_BUILD "\", [](const emulated::Services* s) { emulated::services = s; }, [] { return &emulated::current; }};\n";
    for (size_t i = 0; i < program.expressions.size(); i++) text += description(program.expressions[i], program.loweredNames[i]);
    // Kernels with C linkage need no name expression.
    static const std::regex plain("extern\\s+\"C\"\\s+__global__\\s+(?:__launch_bounds__\\([^)]*\\)\\s+)?void\\s+(?:__launch_bounds__\\([^)]*\\)\\s+)?(\\w+)");
    for (std::sregex_iterator match(program.source.text.begin(), program.source.text.end(), plain), end; match != end; ++match)
        text += description((*match)[1], "emulated_" + (*match)[1].str());
    return text;
}

}

EXPORT const char* nvrtcGetErrorString(int result)
{
    switch (result)
    {
        case Success: return "NVRTC_SUCCESS";
        case InvalidInput: return "NVRTC_ERROR_INVALID_INPUT";
        case InvalidProgram: return "NVRTC_ERROR_INVALID_PROGRAM";
        case Compilation: return "NVRTC_ERROR_COMPILATION";
        case BuiltinOperationFailure: return "NVRTC_ERROR_BUILTIN_OPERATION_FAILURE";
        case NoNamesAfterCompilation: return "NVRTC_ERROR_NO_NAME_EXPRESSIONS_AFTER_COMPILATION";
        case NoLoweredNamesBeforeCompilation: return "NVRTC_ERROR_NO_LOWERED_NAMES_BEFORE_COMPILATION";
        case NameExpressionNotValid: return "NVRTC_ERROR_NAME_EXPRESSION_NOT_VALID";
        default: return "NVRTC_ERROR unknown";
    }
}

// The minor version is the emulator's build: compiled kernels that were kept under another one are not asked for.
EXPORT int nvrtcVersion(int* major, int* minor) { *major = 13; *minor = EMULATOR_BUILD_NUMBER; return Success; }
EXPORT int nvrtcGetNumSupportedArchs(int* count) { *count = 1; return Success; }
EXPORT int nvrtcGetSupportedArchs(int* archs) { *archs = 90; return Success; }

EXPORT int nvrtcCreateProgram(Program** program, const char* source, const char* name, int headers, const char* const* texts, const char* const* names)
{
    auto made = new Program;
    made->source = {name != nullptr ? name : "default_program.cu", source};
    for (int i = 0; i < headers; i++) made->headers.push_back({names[i], texts[i]});
    *program = made;
    return Success;
}

EXPORT int nvrtcDestroyProgram(Program** program)
{
    delete *program;
    *program = nullptr;
    return Success;
}

EXPORT int nvrtcAddNameExpression(Program* program, const char* expression)
{
    if (program->compiled) return NoNamesAfterCompilation;
    if (std::find(program->expressions.begin(), program->expressions.end(), expression) != program->expressions.end()) return Success;
    program->loweredNames.push_back("emulated_entry_" + std::to_string(program->expressions.size()));
    program->expressions.push_back(expression);
    return Success;
}

EXPORT int nvrtcCompileProgram(Program* program, int count, const char* const* options)
{
    program->compiled = true;
    std::string folder = (fs::temp_directory_path() / "fathom-nvrtc-XXXXXX").string();
    if (mkdtemp(folder.data()) == nullptr) { program->log = "cannot make a folder " + folder; return BuiltinOperationFailure; }
    struct Remove { fs::path path; ~Remove() { std::error_code ignored; fs::remove_all(path, ignored); } } remove{folder};
    fs::path root = folder;

    const char* compiler = std::getenv("FATHOM_EMULATOR_CXX");
    if (compiler == nullptr) compiler = "g++";
    std::vector<std::string> compile = {compiler, "-std=c++20", "-O2", "-march=native", "-fPIC", "-w", "-x", "c++", "-I.", "-include", "prelude.hpp",
        "-ffp-contract=off", "-fno-strict-aliasing", "-fno-exceptions", "-fvisibility=hidden", "-fno-gnu-unique", "-fno-math-errno", "-fdiagnostics-color=never",
        "-fsanitize=alignment,bounds,shift-exponent,integer-divide-by-zero", "-fno-sanitize-recover=all"};
    std::string architecture = "900";
    for (int i = 0; i < count; i++)
    {
        std::string option = options[i];
        if (option.starts_with("-D") || option.starts_with("-U"))
        {
            compile.push_back(option);
            if (option.size() == 2 && i + 1 < count) compile.push_back(options[++i]);
        }
        else if (option.starts_with("--define-macro=")) compile.push_back("-D" + option.substr(15));
        else if (size_t at = option.find("sm_"); option.starts_with("--gpu-architecture") || option.starts_with("-arch"))
        {
            if (at == std::string::npos) at = option.find("compute_") + 5;
            architecture = std::to_string(std::atoi(option.c_str() + at + 3) * 10);
        }
        // Other options steer the device compiler and mean nothing here.
    }
    compile.push_back("-D__CUDA_ARCH__=" + architecture);
    if (const char* more = std::getenv("FATHOM_EMULATOR_CXXFLAGS"))
    {
        std::istringstream words(more);
        for (std::string word; words >> word;) compile.push_back(word);
    }
    compile.insert(compile.end(), {"-c", "unit.cpp", "-o", "unit.o"});

    for (const File& header : program->headers)
    {
        fs::path name = fs::path(header.name).filename();
        write(root / header.name, name == "ptx.cuh" ? embedded_ptx : name == "hopper.cuh" ? embedded_hopper : header.text);
    }
    write(root / program->source.name, program->source.text);
    write(root / "abi.hpp", embedded_abi);
    write(root / "prelude.hpp", embedded_prelude);
    write(root / "unit.cpp", unit(*program));

    // Linked without -fsanitize, which would ask for a run-time library: the prelude has what the checks call.
    int status = execute(root, compile, "log");
    if (status == 0) status = execute(root, {compiler, "-shared", "-Wl,-z,defs", "unit.o", "-o", "unit.so", "-lm"}, "log");
    program->log = read(root / "log");
    if (status == 127) { program->log += std::string("the CUDA emulator compiles kernels with ") + compiler + ", which could not be started"; return BuiltinOperationFailure; }
    if (status != 0) return Compilation;
    program->cubin = read(root / "unit.so");
    return Success;
}

EXPORT int nvrtcGetProgramLogSize(Program* program, size_t* bytes) { *bytes = program->log.size() + 1; return Success; }
EXPORT int nvrtcGetProgramLog(Program* program, char* log) { std::memcpy(log, program->log.c_str(), program->log.size() + 1); return Success; }
EXPORT int nvrtcGetCUBINSize(Program* program, size_t* bytes) { *bytes = program->cubin.size(); return program->cubin.empty() ? InvalidProgram : Success; }
EXPORT int nvrtcGetCUBIN(Program* program, char* cubin) { std::memcpy(cubin, program->cubin.data(), program->cubin.size()); return Success; }
EXPORT int nvrtcGetPTXSize(Program*, size_t* bytes) { *bytes = 1; return Success; }
EXPORT int nvrtcGetPTX(Program*, char* ptx) { *ptx = 0; return Success; }

EXPORT int nvrtcGetLoweredName(Program* program, const char* expression, const char** name)
{
    if (!program->compiled) return NoLoweredNamesBeforeCompilation;
    auto found = std::find(program->expressions.begin(), program->expressions.end(), expression);
    if (found == program->expressions.end()) return NameExpressionNotValid;
    *name = program->loweredNames[static_cast<size_t>(found - program->expressions.begin())].c_str();
    return Success;
}
