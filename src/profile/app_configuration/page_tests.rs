use super::*;
use proptest::prelude::*;

/// Recorded pages of the service: the tags of their items, the plain continuation, and the tag of the page.
const RECORDED: [(&[&str], Option<&str>, &str); 4] = [
    (&["Bww10OWeShh8-vfjgfw3XJxuuWEUxEBnJiCYqShbQBM"], None, "MlQMsi5MVzLP7ji02aPhFPypUve5Q-RVzn6NVQu9eoI"),
    (
        &[
            "tB8AE-mBoEncz8z3NpJJtJ681mKGo1AzyChbkqRLaS0",
            "LVOD-ZLOePsbBIphWZSXf98fqzcO8Sk2bzwcPVKKxlk",
            "oWT4a7mJT19AGptWLv7H8XvIvz58-WoAfGWCNpy3mPM",
            "IFOG7M1Rknwh4y2T7U1dwhKFLNCDRmhe2a1T5cOC5b8",
            "vE5g6ZY56OP4uH5r3dyNb9ldEsqmfiiunJhpdgFm4u0",
        ],
        None,
        "Wf-gZHzSgv7BAe0t6r-HmJx0iNA0pqmFK1Vxv5wEM4I",
    ),
    (
        &[
            "tB8AE-mBoEncz8z3NpJJtJ681mKGo1AzyChbkqRLaS0",
            "LVOD-ZLOePsbBIphWZSXf98fqzcO8Sk2bzwcPVKKxlk",
            "oWT4a7mJT19AGptWLv7H8XvIvz58-WoAfGWCNpy3mPM",
            "IFOG7M1Rknwh4y2T7U1dwhKFLNCDRmhe2a1T5cOC5b8",
            "JfV5yYq35WuI5Wxhgk7cEqVsEg5pGTob6jWfFrfDYEc",
        ],
        None,
        "peN-S5V2SJwwngt1i0F1gHvHYGAItSXyscT7xxQ7r30",
    ),
    (
        &[
            "4p3MFLBHRgyKBozqWgb0ihw4h4OWEHIf9GJkY0BUA4U",
            "ls5EH7Udl8Uyhy1mGDJiWjCmr9-s_SO4VrjQTfawfE4",
            "F7WTsfSyYA5fTrRo9whM9OJhJhLIlvQKK0Jg9f0SApE",
            "HK7aQ0zV9KOoOg1MDEioU3-6kmMY2rzi927vaGwTEC8",
            "1fdAs7uuhkcsTKxzXetZMmutJv6TcGRu8xP5PYiWEzo",
            "1Sc-54JQimph5pwD6qeYz4ckm5DFRZccZ_i4DAMWFdI",
            "myqrD9Lf4S79BI0M4eaysLIVSlDNbqSXQ6cJeSK0a60",
            "G52C8JmN1CYrCCnA8QHkAJ3Y9jPi-5PT0FkShlYy-W8",
            "JJA8PO3L3IL8NKCLhCxJI1F8O1zGdV6a7bTGuNeFE3U",
            "3Wq-lavu1xvj01oL0rTj7bWjrVdbYtOzTNSGOufVXP0",
            "3d9ilgPTYHCGRT9J5ZVfkqme30Y8zfya_o_Kh9EiKQ4",
            "xzH1cUfYzo_mgEIx7lvZpaIWjhJwfG91Wn8riFcNIW4",
            "x9PukIIqohwqkJF1rCDn6pYcJQJn98R6nR7fYz9h4ig",
            "-Y5c9h3QGtu2-EMODV5xp20x9w_499qciKiyQs_ehp0",
            "9oRjHcjsuk73aSXJotbcotShxP4YQWecxWqGbouz7YQ",
            "nlFQMyp4GaxYcaQulIibXz2MhJbN-4CRXYu1yCx14bI",
            "9o_UlZlsCesREz6BAMYoBLaeAaFYL1vAA-gFQqYvbuU",
            "gTajIeG6vTtu-_ZrK9KhBUNtDSYugrO8Lzo74j5IrTY",
            "KpJygNrubqeLn7RXDWV1KQSnrv9DYoQkQmqeSazMHYI",
            "3BbJyLMZiQaqOu80DKGzCoX4_m1290ItefVj_HRjG3U",
            "PwrkWP6eieqlsW7-kZTZ20LI6AGZGszvhGea-JNwMhw",
            "BC9HOb0-8vf294Hf7y8HudDmwLkutGj90kswfuy0CEQ",
            "T1dS61nOUmsxFW2gDQ2oOc5_GqpepmzWg7ikzYCYPLc",
            "PbQU9MXdQabWcatBE35O8X37h3DVZNuYPyr8CAqNgSk",
            "bpVLmGpg4x6uAtjLwP-3VnD_DFq7i0zCzEyE9r3s6H0",
            "JVA-Hh7zYTgrUpVXSiXr7HtQBn5EiTDLNUwh2-oTdDI",
            "O-Ox9wZMhUMfIAsD9CGgAx1k_maGSgWvvtjaQhN6bBw",
            "J9AjTpWLc-TuVAQ5KMSnuNCIGhWEjQxyXDGM7DU-Tcg",
            "pQYtierFxwhMpK-Z7tk21ziAD0AikgpEvZAYeKwbzs4",
            "62XQE0ragFK2qKJYebn6ih6b6LZlrA3FvH3Nwm-Cfgc",
            "p8SCojeFx4MbzMdxZ7DTctLP9cpMO-VPJSsalTaeIm8",
            "ejMftHBVSQlhSgMQV0Fs6jTBENvowl9b7I6bNCaj1Fk",
            "1Y91aVcEwlUcDYK3OnRS6fD-11bEHJ7Vluhxlq4X3uc",
            "OMggklZzplKYCHtW4dw5aHk8Yc7KI8PU3_FxvrjJKUA",
            "zqiAlkA3y7Nk8mvG5LtXwh_ECDVU0Sj5jpbw72SLM54",
            "hg_UkoV2aZfM9YxAshFN0eM4lyWXBk7buPKIO-mUXt8",
            "Iur30C-Unz3HW-Pun_dBiDQz_0PFKiCEBr96I-DW3d4",
            "oUDjt5fNrL3Xre4FbZM4cyFWCi_wVlOhAKLrC1DjuBE",
            "CFrxU6hC8hIzo0f0VuL_1s7tyt6FdefhuBtC2awehlY",
            "zEXlyquuSFSXGNrmK4eyUfllX24MsPpfZb4UX9BGZZU",
            "7t9TFl5XedEDAEr3rduPIhHx3hJq1yih4JH-I7d_NQg",
            "TVgArNy5-8nlEIjlfGvIeJOgXw_pdxs-IiqLO-Dfa90",
            "I0g-U07I7k14qJ_-YPzlTJekg7jslIzoFa41YjyL7s0",
            "9h3h33dlsN2DgujMYlJ65ICyXxTITXyZd-gPBGOiiWQ",
            "BFBxyS5iMcJeCJn-OKleft37zGW0qTtHZAsuLv2OpEk",
            "v01v2Tc5io0mo5fTOGSFP0mNI3jVFTRx3S6EQChQn5E",
            "Ylbp30sX8SLtQGwBPuIOwtUYck-4bGuPa2ysq5q2HMk",
            "C-i2xy50Akd5EXe_zCmZ0L8BUOCBMGrco7y52YGPVDI",
            "rf4_r2Izo0umKUT8-sA2FbIWmE5ETX0rVej7oFOQbEk",
            "gNhlh5O-va_A0rYAjDCKb9bHkUqd1smoQm43Uz0nNXI",
            "K29v2uviwHtqYmgDEhd4w36jqcxOumMNBofaBmRz5R0",
            "1RD335uVdZoXRUOwIpirS1g-4OellCQeUKRxi0iofQA",
            "sgJ6dOcKwO9bBK6nAJGyb-lA_gdf2bOiBQ9tBDmpJXI",
            "MA50G-S9B0Z3lLHKqg14xztGWZw-lH-Wg53xn8vOo1I",
            "2bOFxS9GjJnpQOSMofYavvHDYbxewk685Dxkkj97cKM",
            "6EtcAPpVAg5CXHcqoh6wjmzTtw7qTNHpcPKt-IqVXa4",
            "XBaRf_SVd5gh8pmW9PZxMS0kc44VjnSWomMDtFBhjDI",
            "EOKsKGsL_-yFpqKD2vG1Rqjpqws_Om8N4yquqmp2rLk",
            "q5IFxGYLYuMm5HNXnOI1dGqijCXB-9zYrQmjH-IldJ8",
            "bAsJ6v5WooA-2F5mAs9Cwqw0dPapwCSz3L3P5UBY2Xw",
            "NHST3z1UTApMNO4_KzCJcn3uSzgWfXO0J5xaKGpLK5o",
            "17itLfUGFRFANbRIZQKmFOgdMZlB63EtIauREc-ZHSU",
            "ufH4TgxBI2so79rLymLo8SxPyh4H727Aqb3LhVodRGM",
            "TscYXE4icSuOv1Sp6Y4SwfAxHWJDHRmdsiJDZ80IE0c",
            "sAlz-TYE1GPJ6ipwskzRvfRJr5zKtwMGkKwLdCkDAOo",
            "Y_0M_0Q3ob_wSczrSxF2vF-DBil117TFW3chighG-TI",
            "RGaiKIKivY4zIN4TuPZc1DJt8bLPyUxS26pzgpVc7ZQ",
            "CY72rSgI_MgtDH38b6JrX_uFv8nRs_ubabBXKIm26h8",
            "Lq-FhxYwJOBrK2xzzdcQrw0nU1JD-OCXlbLXZcqR7BM",
            "mCFPp7vonJRwcjhQCiL40CEREodJTpqAL02_Am1VE58",
            "WMg-WkFDg7P12hZNXsIYUMWdOubiFMRqVjh45K11OI8",
            "P1FxfKQRIzWWvq6jEuJBybfM-09-pSqqPd7LKRkU19U",
            "RQpE99YR3YjzuNnUdTvnynEhIgjEWI4xjHsTp_oblr4",
            "hq4FFd-CeUOKFkP09i6FlSayMiD5OOuqazqE8CKPQvo",
            "AQW8NOHxkB_RoRrgs9u115v_MgRtmOaEFiaZhRDs3cM",
            "C_lONcRWPuOsRihqyOsWyqMyfBFAIPkM1faoB0Utgks",
            "A9waM4G077GbzaClsfDtCnY1C67nJ61aj1MIib8KG3M",
            "Y8FYoPq7YdCmcE2DXs-5BDH_ndpY2YM4SGSOt3QaGPU",
            "3STIOQ57N4zXB5izcMqhsbvvXByDZjXiWquw4M7QXGQ",
            "vAYtcIX9OCJaPovRXoGwSdYO5Xk9khPdQ_j5GEJA4Oo",
            "EuLCWr8PgNSAH9PvAwHHW0mKpp-L-3jBVzVPwzp-eFs",
            "KJjFaUlmf6IegraY7cFVorwv8VgiMO1_3Gv0dqA7C5Y",
            "5FHx13Oq9ZqF8Ly3cn03C8SyBfW9r69by2VVjSn1HdE",
            "VK7Yzpj2B2R4g1NqLGwdDu5RWQbU2wwD_CzjnVN6XK0",
            "7EixdO4ZOsN6cafDMEUvI-uLSHMj-6m2HgdyO6tQiqE",
            "aJQoqdh7EVqVbCSexAMPW_BBVmE4B1_SwN_B-1OSEVo",
            "siWW7L7n7kR4_XpjSTbnBizCcsW7lxwJecFNKvgwVUQ",
            "LvimkvRCLmekRlLUpkmbMrxd-KZeUvLuV7veJuJ7b1w",
            "gi_S3yA2S6aRLcn2HzrWqvWRG2CPJeQjCifd4VUGZ5o",
            "UnPnN_34nJ_sFd-pmp6nAbBCaVAn0NzMnQ5hQxzN4Dw",
            "1qyKW9iUZTh7kQDNXYlA7hcTCBIz8Bsn12JeXNx3E5A",
            "L-WJPUHcRBOY-wNCIGwjx6rsk-VbF9WVwJSzXUYTn3E",
            "swQkIk0mNCYlPeBGyW-GNdOC8ndonOFfwYmUe92gLnk",
            "dicrmOn6igJUnirX2TIcQvOwqLk63KcH4ddJNbxl0S4",
            "bQVfTINKEQqak5gpmqrGjm1m4vrucf4ACrlYGCBa8qo",
            "x-JahKqa3HD5wxef35Vf8QHby0ywahHhiwYihpR4u4U",
            "36UbPXMTT6Tl5zVWzqambMW_9x6Y6FvnI1XhBGgxYKw",
            "aHDd7TFKgYoSeAjAz5PBmQ8Co2UoKqD_qyHMHG-prHw",
            "oHEh-Q9KmdemiXRf6bJ7dWdrtBaY2FI3rHsG1DtcSSY",
            "1t0R6s3q0EU4e7oBAarg33DoO2N9PGl96oIcO9GtSDw",
        ],
        Some("key-1510778233\n94"),
        "Eg-Gb7SY1uvwwzxZNw3rtICgeCZtOHNpKiwJEZ3hJoU",
    ),
];

#[test]
fn page_tags_equal_the_recorded_ones() {
    for (items, continuation, tag) in RECORDED {
        assert_eq!(page_etag(items.iter().copied(), continuation), tag);
    }
    assert_eq!(page_etag([].into_iter(), None), "00wWELzclWef22f82qcUDI7FbJweVOoKWZDA_JoUeD0");
}

#[test]
fn the_recorded_continuation_names_the_last_item_of_its_page() {
    let recorded: Vec<_> = RECORDED
        .iter()
        .filter_map(|(items, continuation, _)| Some((items.len(), (*continuation)?)))
        .collect();
    let [(PAGE_SIZE, plain)] = recorded[..] else { panic!("one full page that continues") };
    assert_eq!(decode_continuation("a2V5LTE1MTA3NzgyMzMKOTQ=").as_deref(), Some(plain));
    assert_eq!(key_value_before(plain).map(|id| after_key_value(&id)).as_deref(), Some(plain));
}

#[test]
fn after_comes_last_and_the_rest_stays_as_it_was() {
    let link = next_link("/kv", "After=old&api-version=1.0&key=app%3A%2A&%61fter=x&&label=%00", "a\nb");
    assert_eq!(link, "/kv?api-version=1.0&key=app%3A%2A&label=%00&after=YQpi");
    assert_eq!(
        next_link("/kv", "api-version=1.0&key=<é>", "a\n"),
        "/kv?api-version=1.0&key=%3C%C3%A9%3E&after=YQo"
    );
}

#[test]
fn the_form_of_a_link_is_that_of_the_origin() {
    let plain = "~~~\n|2"; // fn5+CnwyCg==
    for (form, after) in [
        (ContinuationForms::URL_SAFE_BARE, "fn5-Cnwy"),
        (ContinuationForms::STANDARD_ENCODED, "fn5%2BCnwy"),
        (ContinuationForms::STANDARD, "fn5+Cnwy"),
    ] {
        let forms = ContinuationForms::of_link(&format!("/kv?api-version=1.0&after={after}"), plain);
        assert!(forms.contains(form), "{form:?} {forms:?}");
        assert_eq!(forms.encode(plain), after);
    }
    let forms = ContinuationForms::of_link("/kv?api-version=1.0&after=YQo%3D", "a\n");
    assert_eq!((forms.encode("a\n"), forms.encode("abc\n")), ("YQo%3D".into(), "YWJjCg%3D%3D".into()));
    assert_eq!(ContinuationForms::of_link("/kv?after=YQo", "b\n"), ContinuationForms::empty());
    for form in ContinuationForms::all().iter() {
        let link = form.encode(plain);
        let sent = percent_decode_str(&link).decode_utf8_lossy().into_owned();
        assert_eq!(decode_continuation(&sent).as_deref(), Some(plain), "{form:?}");
    }
}

#[test]
fn a_name_may_be_empty_and_a_position_may_not() {
    assert_eq!(name_before(&after_name("")), Some(""));
    assert_eq!(name_before("a"), None);
    for plain in ["", "a", "\nb", "a\nb\nc"] {
        assert_eq!(key_value_before(plain), None, "{plain:?}");
    }
}

proptest! {
    #[test]
    fn continuations_round_trip(key in "[^\\p{Cc}%]{1,8}", label in prop::option::of("[^\\p{Cc}]{1,8}")) {
        let id = KeyValueId::new(&key, label.as_deref());
        let token = encode_continuation(&after_key_value(&id));
        prop_assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        prop_assert_eq!(decode_continuation(&token).and_then(|plain| key_value_before(&plain)), Some(id));
    }

    #[test]
    fn no_continuation_panics(token in "[A-Za-z0-9+/=_ -]{0,24}") {
        let _position = decode_continuation(&token).map(|plain| key_value_before(&plain));
    }
}
