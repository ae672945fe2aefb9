//! Names of languages: what models call them, and ISO 639-1.

/// ISO 639-1 codes after the ISO 639-3 codes that stand for them, with the members of macro-languages that GlotLID names.
const CODES: &str = "aar aa abk ab afr af aka ak twi tw alb sq als sq amh am ara ar arb ar arg an hye hy asm as ava av ave ae aym ay \
ayr ay aze az azj az bam bm bak ba baq eu eus eu bel be ben bn bis bi bod bo bos bs bre br bul bg mya my cat ca cha ch che ce chv cv \
zho zh cmn zh chu cu cor kw cos co cre cr ces cs dan da deu de div dv nld nl dzo dz ell el eng en epo eo est et ekk et ewe ee fao fo \
fas fa pes fa fij fj fin fi fra fr fry fy ful ff fuv ff kat ka gla gd gle ga glg gl glv gv grn gn gug gn guj gu hat ht hau ha heb he \
her hz hin hi hmo ho hrv hr hun hu ibo ig isl is ido io iii ii iku iu ike iu ile ie ina ia ind id ipk ik ita it jav jv jpn ja kal kl \
kan kn kas ks kau kr knc kr kaz kk khm km kik ki kin rw kir ky kom kv kpv kv kon kg kor ko kua kj kur ku kmr ku lao lo lat la lav lv \
lvs lv lim li lin ln lit lt ltz lb lub lu lug lg mkd mk mah mh mal ml mri mi mar mr msa ms zsm ms mlg mg plt mg mlt mt mon mn khk mn \
nau na nav nv nbl nr nde nd ndo ng nep ne npi ne nno nn nob nb nor no nya ny oci oc oji oj ori or ory or orm om gaz om oss os pan pa \
pli pi pol pl por pt pus ps pbt ps pst ps que qu quy qu roh rm ron ro run rn rus ru sag sg san sa sin si slk sk slv sl sme se smo sm \
sna sn snd sd som so sot st spa es srd sc srp sr ssw ss sun su swa sw swh sw swe sv tah ty tam ta tat tt tel te tgk tg tgl tl tha th \
tir ti ton to tsn tn tso ts tuk tk tur tr uig ug ukr uk urd ur uzb uz uzn uz ven ve vie vi vol vo cym cy wln wa wol wo xho xh yid yi \
ydd yi yor yo zha za zul zu";

/// The ISO 639-1 code of a model's label, such as `fr`, `fra` or `fra_Latn`; where there is none, the label without its script.
pub(crate) fn short(label: &str) -> String {
    let language = label.split(['_', '-']).next().unwrap_or_default().to_lowercase();
    // fastText's `als` of two models: Alemannic in lid.176, Tosk Albanian (ISO 639-3) in GlotLID, which names a script.
    if language == "als" && !label.contains('_') {
        return language;
    }
    let mut codes = CODES.split_whitespace();
    while let (Some(long), Some(code)) = (codes.next(), codes.next()) {
        if long == language {
            return code.to_owned();
        }
    }
    language
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_in_pairs() {
        let codes: Vec<&str> = CODES.split_whitespace().collect();
        assert!(codes.chunks(2).all(|pair| pair[0].len() == 3 && pair[1].len() == 2));
    }

    #[test]
    fn labels_become_short() {
        let expected = [
            ("fr", "fr"),
            ("fra", "fr"),
            ("fra_Latn", "fr"),
            ("als", "als"),
            ("als_Latn", "sq"),
            ("cmn_Hani", "zh"),
            ("ceb", "ceb"),
            ("gsw_Latn", "gsw"),
            ("zul_Latn", "zu"),
            ("", ""),
        ];
        for (label, code) in expected {
            assert_eq!(short(label), code, "{label}");
        }
    }
}
