//! Tables of real functions in the three formats, and what `co_lines()` says of them; of 3.9, where it does
//! not exist yet, what `PyCode_Addr2Line` does.

use super::*;

const PAIRS: LineTable = LineTable::Pairs { at: 0 };
const RANGES: LineTable = LineTable::Ranges { at: 0 };
const LOCATIONS: LineTable = LineTable::Locations { at: 0 };

/// A function's first line, its table, and the lines of its instructions of two bytes: `line:how many`.
type Recorded = (LineTable, i32, &'static str, &'static str);

/// Of 3.9.18.
const OF_3_9: &[Recorded] = &[
    // A call over several lines, with calls in it.
    (PAIRS, 7, "0001020102010601020102ff02fd0607", "8:1 9:1 10:3 11:1 12:1 11:1 8:3 15:2"),
    // Two loops with an else.
    (
        PAIRS,
        18,
        "000104010c01080102010a02080104010a01",
        "19:2 20:6 21:4 22:1 23:5 25:4 26:2 27:5 28:2",
    ),
    // Try, except and finally.
    (PAIRS, 31, "000104010a010e012002", "32:2 33:5 34:7 35:16 37:10"),
    // Steps of hundreds of lines, and back.
    (PAIRS, 40, "0001087f007f0030087f000f060106ff", "41:4 343:4 485:3 486:3 485:2"),
    // An inlined comprehension whose lines go back.
    (
        PAIRS,
        489,
        "00010a02020104ff02fe0406020102ff02fa",
        "490:5 492:1 493:2 492:1 490:2 496:1 497:1 496:1 490:2",
    ),
    // A coroutine.
    (PAIRS, 500, "0001100110013801", "501:8 502:8 503:28 504:7"),
];

/// Of 3.10.13.
const OF_3_10: &[Recorded] = &[
    // A call over several lines, with calls in it.
    (RANGES, 7, "0201020106010201020102ff06fd0407", "8:1 9:1 10:3 11:1 12:1 11:1 8:3 15:2"),
    // Two loops with an else.
    (
        RANGES,
        18,
        "04010c01080102010a0108020401080104ff0402",
        "19:2 20:6 21:4 22:1 23:5 25:4 26:2 27:4 26:2 28:2",
    ),
    // Try, except and finally.
    (
        RANGES,
        31,
        "04010a010e011401088002ff02ff0a0402fe1202",
        "32:2 33:5 34:7 35:10 -:4 34:1 33:1 37:5 35:1 37:9",
    ),
    // Steps of hundreds of lines, and back.
    (RANGES, 40, "0801007f007f0830007f060f060104ff", "41:4 343:4 485:3 486:3 485:2"),
    // An inlined comprehension whose lines go back.
    (
        RANGES,
        489,
        "0a010202040102ff04fe0206020102ff04fa",
        "490:5 492:1 493:2 492:1 490:2 496:1 497:1 496:1 490:2",
    ),
    // A coroutine.
    (RANGES, 500, "0280100110010c0104ff28ff0e03", "-:1 501:8 502:8 503:6 502:2 501:20 504:7"),
];

/// Of 3.11.7.
const OF_3_11: &[Recorded] = &[
    // A call over several lines, with calls in it.
    (
        LOCATIONS,
        7,
        "8000d80c0d8841d80809d808098801882189048c04d80c0d8841d80c0df103020d0af400020d0a\
         f007060d06f100060d06f400060d068045f00e000c11804c",
        "7:1 8:2 9:1 10:10 11:2 12:1 11:7 8:9 15:2",
    ),
    // Two loops with an else.
    (
        LOCATIONS,
        18,
        "8000d80c0d8045dd0d12903189588c58f000050513f0000505138801d80b0c88718935f0000109\
         15d80c14d8080d9011890a88058805e0080d9011890a8805d80a0ff000010513d8080d9011890a\
         8805f003000b10f000010513e00b10804c",
        "18:1 19:2 20:17 21:5 22:1 23:6 25:5 26:2 27:5 26:2 28:2",
    ),
    // Try, except and finally.
    (
        LOCATIONS,
        31,
        "8000f00205050cd80809880189038c0388038803f8dd0b15f000010515f000010515f000010515\
         dd080d8865890c8c0c880c880c880c880c880c880cf8f8f8f8f003010515f8f8f8f00600090a88\
         0189038c03880388038803f88801880189038c0388038803f8f8f8",
        "31:1 32:1 33:11 -:1 34:9 35:20 -:4 34:1 -:3 37:12 -:1 37:11 -:3",
    ),
    // Steps of hundreds of lines, and back.
    (
        LOCATIONS,
        40,
        "8000d8040580418061814484448044f05c0900050680418061814484448044f05c04000d0e8841\
         886189448c44d80c0d8841886189448c44f003010c12f000010512",
        "40:1 41:11 343:11 485:10 486:10 485:2",
    ),
    // An inlined comprehension whose lines go back.
    (
        LOCATIONS,
        489,
        "f88000f002060c06f000060c06f000060c06f000060c06e011129011d80d0e8843f10302120af4\
         0002120af005060c06f100060c06f400060c06f00c00090a8801d80809f10301090bf40001090b\
         f10d070c0bf00007050b",
        "-:1 489:1 490:4 492:2 493:2 492:7 490:8 496:2 497:1 496:7 490:3",
    ),
    // A coroutine.
    (
        LOCATIONS,
        500,
        "f8f8e800e8008000d80f10887189738c73f000020514f000020514f000020514f000020514f000\
         020514f000020514f0000205149061d81718f000010914f000010914f000010914f000010914f0\
         00010914f000010914f0000109149021d8121388478847884788478847884788478847f0030018\
         199071f003020514f000020514f000020514f100020514f400020514f000020514f000020514f0\
         00020514f000020514f000020514f000020514f000020514f000020514f000020514f000020514\
         f000020514f000020514f000020514f000020514f000020514f000020514f000020514f0000205\
         14f8f8f8f000020514f000020514f000020514f000020514f006010c0af000010c0af000010c0a\
         f000010c0af000010c0af00001050a",
        "-:2 500:3 501:17 502:9 503:9 502:2 501:28 -:3 501:4 504:6",
    ),
];

/// Of 3.13.0.
const OF_3_13: &[Recorded] = &[
    // A call over several lines, with calls in it.
    (
        LOCATIONS,
        7,
        "8000d90c0dd80809d9080988218b04d90c0dd80c0df303020d0af107060d068045f00e000c1180\
         4c",
        "7:1 8:2 9:1 10:7 11:2 12:1 11:4 8:3 15:2",
    ),
    // Two loops with an else.
    (
        LOCATIONS,
        18,
        "8000d80c0d8045dc0d1290318e588801d80b0c88718f35d90c14d8080d890a8a05f107000e16f0\
         0a00090e9011890a8805de0a0fd8080d9011890a8805f703000b108825e00b10804c",
        "18:1 19:2 20:14 21:10 22:2 23:6 20:2 25:5 26:7 27:5 26:9 28:2",
    ),
    // Try, except and finally.
    (
        LOCATIONS,
        31,
        "8000f00205050cd908098c03f10800090a8d03f8f407000c16f300010515dc080d88658f0c890c\
         fbf003010515fbf10600090a8d03fa",
        "31:1 32:1 33:7 37:8 -:1 34:9 35:16 -:4 34:1 -:4 37:8 -:3",
    ),
    // Steps of hundreds of lines, and back.
    (
        LOCATIONS,
        40,
        "8000d9040580618444f15c0900050680618444f15c04000d0e88618b44d90c0d88618b44f00301\
         0c12f000010512",
        "40:1 41:8 343:8 485:7 486:7 485:2",
    ),
    // An inlined comprehension whose lines go back.
    (
        LOCATIONS,
        489,
        "8000f106001213d80d0e8843f40302120af305060c06f10402120a8841f106000c0d88518f34f3\
         0900090d890188218e04f10202120af105060c06f10c00090ad80809f30301090bf10d070c0bf0\
         0007050bf9f200060c06",
        "489:1 492:2 493:2 492:5 490:4 492:3 495:11 491:14 492:2 490:2 496:2 497:1 \
         496:4 490:3 -:2 490:3",
    ),
    // A coroutine.
    (
        LOCATIONS,
        500,
        "f9e9008000d90f108f738c739061d91718f7000109149021d812138f478a47f105001013f10201\
         0914d90c13f003001819f7030010138f738f738f738f738873faf506010c0af00001050af9",
        "-:2 500:3 501:16 502:11 503:12 501:2 502:2 503:2 502:1 501:41 -:3 504:7 -:2",
    ),
];

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().map(|c| c.to_digit(16).unwrap() as u8).collect();
    digits.as_chunks().0.iter().map(|[high, low]| high << 4 | low).collect()
}

/// The line of each instruction in turn.
fn lines(runs: &str) -> Vec<Option<u32>> {
    let run = |run: &str| {
        let (line, times) = run.split_once(':').unwrap();
        vec![line.parse().ok(); times.parse().unwrap()]
    };
    runs.split(' ').flat_map(run).collect()
}

#[test]
fn every_instruction_has_the_line_that_the_interpreter_says() {
    for (format, first, table, runs) in [OF_3_9, OF_3_10, OF_3_11, OF_3_13].concat() {
        let table = bytes(table);
        for (offset, expected) in (0_i64..).step_by(2).zip(lines(runs)) {
            let found = line(format, &table, first, offset);
            assert_eq!(found, expected, "{format:?} from {first}, at {offset}");
        }
        assert_eq!(line(format, &table, first, -2), u32::try_from(first).ok(), "not begun");
        if format != PAIRS {
            let behind = 2 * lines(runs).len() as i64;
            assert_eq!(line(format, &table, first, behind), None, "behind its end");
        }
    }
}

#[test]
fn what_is_no_line_is_none() {
    // The first instruction of a module.
    assert_eq!(line(LOCATIONS, &[0xf0, 3, 1, 1, 1], 1, 0), None);
    assert_eq!(line(RANGES, &[2, 0xff], 1, 0), None, "line 0");
    assert_eq!(line(RANGES, &[2, 0xfe], 1, 0), None, "below it");
    assert_eq!(line(PAIRS, &[], -7, 0), None);
}

#[test]
fn a_table_that_lies_gives_no_line_and_ends() {
    assert_eq!(line(LOCATIONS, &[0x08, 0x80], 1, 0), None, "no entry");
    assert_eq!(line(LOCATIONS, &[0xf0, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x3f], 1, 0), None);
    assert_eq!(line(LOCATIONS, &[0xf0], 1, 0), None, "cut");
    assert_eq!(line(LOCATIONS, &vec![0x80; 65_536], 7, i64::MAX), None);
    assert_eq!(line(RANGES, &vec![0; 65_536], 7, 0), None, "ranges of no length");
    assert_eq!(line(RANGES, &[2], 7, 0), None, "half a pair");
    let large = [0xf7, 0x7e, 0x7f, 0x7f, 0x7f, 0x7f, 0x03];
    assert_eq!(line(LOCATIONS, &large, i32::MAX, 0), Some(i32::MAX as u32 + (1 << 31) - 1));
}
