//! The constants of MD5's four rounds. RFC 1321, section 3.4.
//!
//! Invariants: step `i` of round `r` adds word `WORDS[r][i]` of the input and `CONSTANTS[r][i]`.
//! Not here: the mixing function and the rotations of a round, which are immediates of the kernels.

/// Steps of a round.
pub(super) const STEPS: usize = 16;

/// The integer part of 2^32 * abs(sin(16 * r + i + 1)).
pub(super) static CONSTANTS: [[u32; STEPS]; 4] = [
    [
        0xD76A_A478,
        0xE8C7_B756,
        0x2420_70DB,
        0xC1BD_CEEE,
        0xF57C_0FAF,
        0x4787_C62A,
        0xA830_4613,
        0xFD46_9501,
        0x6980_98D8,
        0x8B44_F7AF,
        0xFFFF_5BB1,
        0x895C_D7BE,
        0x6B90_1122,
        0xFD98_7193,
        0xA679_438E,
        0x49B4_0821,
    ],
    [
        0xF61E_2562,
        0xC040_B340,
        0x265E_5A51,
        0xE9B6_C7AA,
        0xD62F_105D,
        0x0244_1453,
        0xD8A1_E681,
        0xE7D3_FBC8,
        0x21E1_CDE6,
        0xC337_07D6,
        0xF4D5_0D87,
        0x455A_14ED,
        0xA9E3_E905,
        0xFCEF_A3F8,
        0x676F_02D9,
        0x8D2A_4C8A,
    ],
    [
        0xFFFA_3942,
        0x8771_F681,
        0x6D9D_6122,
        0xFDE5_380C,
        0xA4BE_EA44,
        0x4BDE_CFA9,
        0xF6BB_4B60,
        0xBEBF_BC70,
        0x289B_7EC6,
        0xEAA1_27FA,
        0xD4EF_3085,
        0x0488_1D05,
        0xD9D4_D039,
        0xE6DB_99E5,
        0x1FA2_7CF8,
        0xC4AC_5665,
    ],
    [
        0xF429_2244,
        0x432A_FF97,
        0xAB94_23A7,
        0xFC93_A039,
        0x655B_59C3,
        0x8F0C_CC92,
        0xFFEF_F47D,
        0x8584_5DD1,
        0x6FA8_7E4F,
        0xFE2C_E6E0,
        0xA301_4314,
        0x4E08_11A1,
        0xF753_7E82,
        0xBD3A_F235,
        0x2AD7_D2BB,
        0xEB86_D391,
    ],
];

/// Which word of the input each step adds.
pub(super) static WORDS: [[usize; STEPS]; 4] = [order(1, 0), order(5, 1), order(3, 5), order(7, 0)];

const fn order(stride: usize, first: usize) -> [usize; STEPS] {
    let mut order = [0; STEPS];
    let mut i = 0;
    while i < STEPS {
        order[i] = (first + stride * i) % STEPS;
        i += 1;
    }
    order
}
